// What a reload changes: the configuration that runs against the one that was read.
//
// Pure functions.

#ifndef DIRTY_SERVER_CONFIG_CHANGES_H_
#define DIRTY_SERVER_CONFIG_CHANGES_H_

#include <string>
#include <vector>

#include "server/config/settings.h"

namespace dirty {

struct Changes {
  Settings settings;                       // to run from now on: what needs a restart keeps its value
  std::vector<std::string> applied;        // a line each: "pool default: workers 2 -> 3". Never a value of `env`
  std::vector<std::string> needs_restart;  // a line each: "socket: /run/dirty/dirty.sock -> /srv/dirty.sock"
};

Changes Compare(const Settings& running, const Settings& read);

}  // namespace dirty

#endif  // DIRTY_SERVER_CONFIG_CHANGES_H_
