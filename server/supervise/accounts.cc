#include "server/supervise/accounts.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace dirty {
namespace {

// To chown and setresuid, the largest id means that nothing is to change.
template <typename Id>
bool ParseId(const std::string& text, Id* id) {
  return absl::SimpleAtoi(text, id) && *id != static_cast<Id>(-1);
}

absl::StatusOr<gid_t> FindGroup(absl::string_view key, const std::string& name) {
  if (const group* entry = getgrnam(name.c_str())) return entry->gr_gid;
  if (gid_t number; ParseId(name, &number)) return number;
  return absl::InvalidArgumentError(absl::StrCat(key, ": there is no group \"", name, "\""));
}

}  // namespace

absl::StatusOr<Owner> FindOwner(const std::string& user, const std::string& group) {
  Owner owner = {geteuid(), getegid()};
  if (!user.empty()) {
    if (const passwd* entry = getpwnam(user.c_str())) {
      owner = {entry->pw_uid, entry->pw_gid};
    } else if (!ParseId(user, &owner.uid)) {
      return absl::InvalidArgumentError(absl::StrCat("user: there is no user \"", user, "\""));
    } else if (const passwd* numbered = getpwuid(owner.uid)) {
      owner.gid = numbered->pw_gid;
    }
  }
  if (!group.empty()) {
    absl::StatusOr<gid_t> gid = FindGroup("group", group);
    if (!gid.ok()) return gid.status();
    owner.gid = *gid;
  }
  return owner;
}

absl::StatusOr<std::optional<gid_t>> FindSocketGroup(const std::string& name) {
  if (name.empty()) return std::optional<gid_t>();
  absl::StatusOr<gid_t> gid = FindGroup("socket_group", name);
  if (!gid.ok()) return gid.status();
  return std::optional<gid_t>(*gid);
}

absl::Status CheckAccounts(const Settings& settings) {
  for (const PoolSettings& pool : settings.pools) {
    if (absl::StatusOr<Owner> owner = FindOwner(pool.user, pool.group); !owner.ok()) return owner.status();
  }
  return FindSocketGroup(settings.socket_group).status();
}

}  // namespace dirty
