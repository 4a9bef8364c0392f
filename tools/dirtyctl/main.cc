// dirtyctl: see `dirtyctl --help`.

#include <csignal>
#include <iostream>

#include "tools/dirtyctl/arguments.h"
#include "tools/dirtyctl/commands.h"
#include "tools/dirtyctl/report.h"

int main(int argc, char** argv) {
  using dirty::ctl::Arguments;
  const absl::StatusOr<Arguments> arguments = dirty::ctl::ParseArguments({argv + 1, argv + argc});
  if (!arguments.ok()) return dirty::ctl::FailUsage(arguments.status().message());
  switch (arguments->wish) {
    case Arguments::Wish::kHelp:
      std::cout << dirty::ctl::Help(arguments->command);
      return dirty::ctl::kDone;
    case Arguments::Wish::kVersion:
      std::cout << dirty::ctl::Version() << "\n";
      return dirty::ctl::kDone;
    case Arguments::Wish::kRun:
      break;
  }
  if (arguments->command->name == "call") return dirty::ctl::RunCall(*arguments);
  if (arguments->command->name == "health") return dirty::ctl::RunHealth(*arguments);
  if (arguments->command->name == "top") return dirty::ctl::RunTop(*arguments);
  return dirty::ctl::RunAdmin(*arguments);
}
