// The users and groups that a configuration names, by the machine's database. Looks names up, which may ask the
// network: not on the loop.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "server/config/settings.h"

namespace dirty {

struct Owner {
  uid_t uid;
  gid_t gid;
};

// Of the workers, `user` and `group` as in PoolSettings: names of the database, else numbers. Empty: our own user, and
// the user's group.
absl::StatusOr<Owner> FindOwner(const std::string& user, const std::string& group);

// Of the client socket, likewise. Empty: none.
absl::StatusOr<std::optional<gid_t>> FindSocketGroup(const std::string& name);

// Whether all that `settings` name are there. The error names the key.
absl::Status CheckAccounts(const Settings& settings);

}  // namespace dirty
