#ifndef DIRTY_TOOLS_BENCH_OWN_DIRTYD_H_
#define DIRTY_TOOLS_BENCH_OWN_DIRTYD_H_

#include <absl/status/statusor.h>
#include <sys/types.h>

#include <memory>
#include <string>

#include "tools/bench/options.h"

namespace dirty::bench {

// A dirtyd with the app that echoes, started from the folder that this program is in, with a runtime directory of its
// own. It ends, and the directory goes, with this object; dirtyd also ends when this process does. Thread-compatible.
class OwnDirtyd {
 public:
  // Returns when every worker is ready. Before the first use of gRPC in this process: it forks.
  static absl::StatusOr<std::unique_ptr<OwnDirtyd>> Start(const Options& options);
  ~OwnDirtyd();
  OwnDirtyd(const OwnDirtyd&) = delete;
  OwnDirtyd& operator=(const OwnDirtyd&) = delete;

  std::string socket() const { return folder_ + "/dirty.sock"; }
  std::string admin_socket() const { return folder_ + "/admin.sock"; }

 private:
  explicit OwnDirtyd(std::string folder) : folder_(std::move(folder)) {}
  absl::Status Spawn(const Options& options);
  absl::Status AwaitReady(unsigned workers) const;
  bool Ended() const;            // it has ended by itself
  absl::Status Failure() const;  // with the end of its log

  const std::string folder_;
  pid_t pid_ = 0;
};

}  // namespace dirty::bench

#endif  // DIRTY_TOOLS_BENCH_OWN_DIRTYD_H_
