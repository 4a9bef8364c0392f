#include "server/observe/process_title.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

namespace dirty {
namespace {

// The kernel shows this memory in /proc/PID/cmdline.
char* title_begin = nullptr;
char* title_end = nullptr;

}  // namespace

void InitProcessTitle(int argc, char** argv) {
  if (argc < 1 || title_begin != nullptr) return;
  char* end = argv[0];
  for (int i = 0; i < argc; ++i) {
    if (argv[i] == end) end += strlen(end) + 1;
  }
  char* arguments_end = end;
  size_t variables = 0;
  for (; environ[variables] != nullptr; ++variables) {
    if (environ[variables] == end) end += strlen(end) + 1;
  }
  if (end != arguments_end) {
    char** moved = static_cast<char**>(calloc(variables + 1, sizeof(char*)));
    if (moved == nullptr) return;
    for (size_t i = 0; i < variables; ++i) moved[i] = strdup(environ[i]);
    environ = moved;
  }
  // glibc's own pointers go there, too.
  program_invocation_name = strdup(program_invocation_name);
  program_invocation_short_name = strdup(program_invocation_short_name);
  title_begin = argv[0];
  title_end = end;
}

void SetProcessTitle(absl::string_view text) {
  if (title_begin == nullptr) return;
  size_t room = static_cast<size_t>(title_end - title_begin) - 1;
  size_t length = std::min(text.size(), room);
  memcpy(title_begin, text.data(), length);
  memset(title_begin + length, 0, room + 1 - length);
}

}  // namespace dirty
