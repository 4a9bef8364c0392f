// A configuration that is Python code (gunicorn.conf.py), read by the user's interpreter in a process of its own.
//
// Thread-safe: a function. It waits for the process: at the start, or on the thread that reads the configuration again.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace dirty {

// How long the file may take.
inline constexpr absl::Duration kPythonConfigTimeout = absl::Seconds(30);

struct PythonConfig {
  std::string yaml;    // as of a configuration file
  std::string notice;  // settings that dirtyd does not use; empty: none
};

// `path` is absolute. `python_folder` has the package dirty_worker. The error's message says what the file raised, or
// why the interpreter could not be run.
absl::StatusOr<PythonConfig> ReadPythonConfig(const std::string& interpreter, const std::string& python_folder,
                                              const std::string& path);

}  // namespace dirty
