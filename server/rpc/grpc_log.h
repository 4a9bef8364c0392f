// What gRPC itself has to say, such as of handshakes that failed or of clients that compress, as lines of our log: a
// few in a second, for clients and strangers can cause them.
//
// Owned by main, one at a time: gRPC knows a function only. Thread-safe.
#pragma once

#include "server/loop/timers.h"
#include "server/observe/log.h"

namespace dirty {

class GrpcLog {
 public:
  // Both outlive it. From now on until its end.
  GrpcLog(const Clock& clock, Logger& log);
  ~GrpcLog();
  GrpcLog(const GrpcLog&) = delete;
  GrpcLog& operator=(const GrpcLog&) = delete;
};

}  // namespace dirty
