// What the launcher and the exec helper (exec.cc) agree on.
#pragma once

namespace dirty {

// Descriptors of the helper. The worker inherits the first four and nothing else.
inline constexpr int kReadyFd = 3;   // a worker writes a newline once it listens
inline constexpr int kStatusFd = 4;  // close-on-exec: one line if the worker could not be started, else nothing

// The helper's exit code when it could not start the worker.
inline constexpr int kExecFailed = 127;

}  // namespace dirty
