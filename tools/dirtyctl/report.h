#ifndef DIRTY_TOOLS_DIRTYCTL_REPORT_H_
#define DIRTY_TOOLS_DIRTYCTL_REPORT_H_

// What dirtyctl says when something failed, and the exit codes. One line first, then details, on standard error.

#include <absl/strings/string_view.h>
#include <grpcpp/support/status.h>

#include <string>

#include "dirty/client.h"

namespace dirty::ctl {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kWrongUsage = 2;
inline constexpr int kUnreachable = 3;

// The text for an error: `REASON: message`, then indented lines for what else is known. `title` instead of the reason.
std::string Describe(const client::Error& error);
std::string Describe(absl::string_view title, const client::Error& error);

// Say what failed and return the exit code.
int Fail(const client::Error& error);
int Fail(const grpc::Status& status, const std::string& socket);  // of an Admin or health RPC
int FailUsage(absl::string_view message);

}  // namespace dirty::ctl

#endif  // DIRTY_TOOLS_DIRTYCTL_REPORT_H_
