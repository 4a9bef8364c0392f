#ifndef DIRTY_TOOLS_BENCH_SESSIONS_H_
#define DIRTY_TOOLS_BENCH_SESSIONS_H_

#include <grpcpp/support/status.h>

#include <functional>
#include <string>

namespace dirty::bench {

// Opens `count` sessions on `socket`, each on a connection of its own, runs `opened` while they stand idle, and ends
// them. The status is that of the first session that could not be opened; then `opened` has not run.
grpc::Status HoldSessions(unsigned count, const std::string& socket, const std::function<void()>& opened);

}  // namespace dirty::bench

#endif  // DIRTY_TOOLS_BENCH_SESSIONS_H_
