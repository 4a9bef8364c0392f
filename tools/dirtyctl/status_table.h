#ifndef DIRTY_TOOLS_DIRTYCTL_STATUS_TABLE_H_
#define DIRTY_TOOLS_DIRTYCTL_STATUS_TABLE_H_

// `dirtyctl status` for people. Stateless.

#include <absl/time/time.h>

#include <string>

#include "dirty/v1/admin.pb.h"

namespace dirty::ctl {

// Tables of workers, apps, running calls and exits. `now` is what ages are counted to.
std::string StatusTable(const v1::StatusResponse& status, absl::Time now);

}  // namespace dirty::ctl

#endif  // DIRTY_TOOLS_DIRTYCTL_STATUS_TABLE_H_
