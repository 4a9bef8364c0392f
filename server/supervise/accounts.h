// Users and groups that a configuration names: names of the machine's database, else numbers. Looks them up, which may
// ask the network: not on the loop. Thread-safe.
#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"

namespace dirty {

struct Owner {
  uid_t uid;
  gid_t gid;
};

// InvalidArgument: there is no such user, or it is a number of which the database knows no group, and it is to have one
// (`with_group`; else gid is then our own). Unavailable: the database cannot be read.
absl::StatusOr<Owner> FindUser(const std::string& name, bool with_group);

// Errors likewise.
absl::StatusOr<gid_t> FindGroup(const std::string& name);

// Of the workers, `user` and `group` as in PoolSettings. Empty: our own user, and the user's group. Errors name the
// key.
absl::StatusOr<Owner> FindOwner(const std::string& user, const std::string& group);

}  // namespace dirty
