// What starts processes (ChildProcess) and the exec helper (exec.cc) agree on.
#pragma once

namespace dirty {

// Descriptors of the helper. A worker inherits the first four and nothing else, a hook the first three.
inline constexpr int kReadyFd = 3;   // a worker writes a newline once it listens
inline constexpr int kStatusFd = 4;  // close-on-exec: one line if the worker could not be started, else nothing

// The helper's exit code when it could not start the worker.
inline constexpr int kExecFailed = 127;

}  // namespace dirty
