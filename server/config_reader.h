// Where dirtyd's configuration comes from: command line, file, environment; and reading it again. Wiring, of main.cc
// alone.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/config.h"
#include "server/loop/poster.h"
#include "server/observe/log.h"
#include "server/rpc/network.h"
#include "server/rpc/network_files.h"

namespace dirty {

// This process's, as NAME=value.
std::vector<std::string> Environment();

// What a configuration is read with: this process's user, folder and environment. A file is YAML, or a
// gunicorn.conf.py, which the interpreter reads that --python names. `command_line` outlives it.
ConfigContext MakeConfigContext(const std::string& prefix, const CommandLine& command_line);

// The network's certificates and tokens are these from now on.
void UseFiles(NetworkAccess& network, NetworkFiles files, Logger& log);

// Reads the configuration again: on a thread of its own, for the loop does not wait for a disk.
class ConfigReader {
 public:
  // `network`: null if there is none; the files of one that stands are read, and once accepted used, too.
  ConfigReader(const CommandLine& command_line, const ConfigContext& context, NetworkAccess* network, Logger& log,
               Poster& poster)
      : command_line_(command_line), context_(context), network_(network), log_(log), poster_(poster) {}
  ~ConfigReader() { Join(); }
  ConfigReader(const ConfigReader&) = delete;
  ConfigReader& operator=(const ConfigReader&) = delete;

  // On the loop, one at a time.
  void Read(std::function<void(absl::StatusOr<Settings>)> done);
  // What was read last has been accepted: the network's files are those from now on.
  void Accept();
  void Join();

 private:
  const CommandLine& command_line_;
  const ConfigContext& context_;
  NetworkAccess* const network_;
  Logger& log_;
  Poster& poster_;
  std::optional<NetworkFiles> read_;  // not accepted yet
  std::thread thread_;
};

}  // namespace dirty
