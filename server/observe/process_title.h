// What `ps` shows for this process. For main only: before any thread, and later on one thread.
#pragma once

#include "absl/strings/string_view.h"

namespace dirty {

// Takes the memory of main's `argv` and of the environment for titles: the environment is moved first, `argv`'s strings
// are lost with the first title. Before any other thread.
void InitProcessTitle(int argc, char** argv);

// Shows `text`, cut to that memory (which the command line and the environment had).
void SetProcessTitle(absl::string_view text);

}  // namespace dirty
