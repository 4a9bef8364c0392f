// consumer [APP ACTION ARGS_JSON]: one call with the installed client. Without arguments it only shows that the client
// is linked: a call to a socket that is not there fails as documented.

#include <dirty/client.h>

#include <chrono>
#include <iostream>

namespace client = dirty::client;

int main(int argc, char** argv) {
  if (argc < 4) {
    const client::Client nowhere({.socket = "/nonexistent/dirty.sock", .connect_timeout = std::chrono::seconds(0)});
    const client::Result result = nowhere.Execute("a:A", "act");
    if (result.ok() || result.error().reason != client::Reason::kConnection) return 1;
    std::cout << result.error().message << "\n";
    return 0;
  }
  const client::RawResult result = client::Client().ExecuteRaw(argv[1], argv[2], argv[3], "");
  if (!result.ok()) {
    std::cerr << client::ReasonName(result.error().reason) << ": " << result.error().message << "\n";
    return 1;
  }
  std::cout << result->result << "\n";
  return 0;
}
