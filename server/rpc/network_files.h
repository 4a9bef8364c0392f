// What the files of a network listener hold: certificate, key, authorities and tokens, read and checked.
//
// A function and a value: immutable once read.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/config/settings.h"

namespace dirty {

inline constexpr absl::Duration kHandshakeInterval = absl::Milliseconds(100);
inline constexpr int kMostHandshakes = 16;

struct NetworkFiles {
  std::string certificate;  // PEM, as are the next two; empty: not encrypted
  std::string key;
  std::string client_ca;            // empty: clients need no certificate
  std::vector<std::string> tokens;  // empty: clients need none
  // Connections that may begin in kHandshakeInterval: those who make them need not have shown anything yet, and their
  // handshakes must leave the loop time for others.
  int connections = kMostHandshakes;
  // What an operator should know although it works, a line each.
  std::vector<std::string> warnings;
};

// Waits for the disk: not on the loop. The error names the key, the file and what to do; never what is in the file.
absl::StatusOr<NetworkFiles> ReadNetworkFiles(const NetworkSettings& settings);

}  // namespace dirty
