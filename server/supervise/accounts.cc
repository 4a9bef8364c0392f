#include "server/supervise/accounts.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace dirty {
namespace {

constexpr size_t kLongestEntry = 16 << 20;  // a group names its members

// To chown and setresuid, the largest id means that nothing is to change.
template <typename Id>
bool ParseId(const std::string& text, Id* id) {
  return absl::SimpleAtoi(text, id) && *id != static_cast<Id>(-1);
}

// One of the getXXX_r: whether there is an entry. What it points to is gone then.
template <typename Key, typename Entry>
absl::StatusOr<bool> LookUp(int (*get)(Key, Entry*, char*, size_t, Entry**), Key key, Entry* entry) {
  std::vector<char> text(1024);
  for (;;) {
    Entry* found = nullptr;
    const int error = get(key, entry, text.data(), text.size(), &found);
    if (found != nullptr) return true;
    switch (error) {
      case EINTR:
        continue;
      case ERANGE:
        if (text.size() >= kLongestEntry) break;
        text.resize(2 * text.size());
        continue;
      case 0:  // and what else getpwnam(3) lists for "not found"
      case ENOENT:
      case ESRCH:
      case EBADF:
      case EPERM:
        return false;
    }
    return absl::UnavailableError(absl::StrCat("the database of users and groups cannot be read: ", strerror(error)));
  }
}

template <typename Found>
absl::StatusOr<Found> OfKey(absl::string_view key, absl::StatusOr<Found> found) {
  if (found.ok()) return found;
  return absl::Status(found.status().code(), absl::StrCat(key, ": ", found.status().message()));
}

}  // namespace

absl::StatusOr<Owner> FindUser(const std::string& name, bool with_group) {
  passwd entry;
  absl::StatusOr<bool> found = LookUp(getpwnam_r, name.c_str(), &entry);
  if (!found.ok()) return found.status();
  if (*found) return Owner{entry.pw_uid, entry.pw_gid};
  uid_t number;
  if (!ParseId(name, &number)) return absl::InvalidArgumentError(absl::StrCat("there is no user \"", name, "\""));
  found = LookUp(getpwuid_r, number, &entry);
  if (!found.ok()) return found.status();
  if (*found) return Owner{number, entry.pw_gid};
  if (!with_group) return Owner{number, getegid()};
  return absl::InvalidArgumentError(absl::StrCat(name, " is not in the user database: set `group` too"));
}

absl::StatusOr<gid_t> FindGroup(const std::string& name) {
  struct group entry;
  const absl::StatusOr<bool> found = LookUp(getgrnam_r, name.c_str(), &entry);
  if (!found.ok()) return found.status();
  if (*found) return entry.gr_gid;
  if (gid_t number; ParseId(name, &number)) return number;
  return absl::InvalidArgumentError(absl::StrCat("there is no group \"", name, "\""));
}

absl::StatusOr<Owner> FindOwner(const std::string& user, const std::string& group) {
  Owner owner = {geteuid(), getegid()};
  if (!user.empty()) {
    absl::StatusOr<Owner> found = OfKey("user", FindUser(user, /*with_group=*/group.empty()));
    if (!found.ok()) return found;
    owner = *found;
  }
  if (!group.empty()) {
    const absl::StatusOr<gid_t> gid = OfKey("group", FindGroup(group));
    if (!gid.ok()) return gid.status();
    owner.gid = *gid;
  }
  return owner;
}

}  // namespace dirty
