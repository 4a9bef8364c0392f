// DIRTY_CHECK(condition, "message", values ...): an impossible state ends the process with the values printed.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace dirty {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition, const std::string& message) {
  int error = errno;
  fprintf(stderr, "%s:%d: impossible: %s: %s (errno: %s)\n", file, line, condition, message.c_str(), strerror(error));
  abort();
}

}  // namespace dirty

#define DIRTY_CHECK(condition, ...)                                                    \
  do {                                                                                 \
    if (!(condition)) {                                                                \
      ::dirty::CheckFailed(__FILE__, __LINE__, #condition, absl::StrCat(__VA_ARGS__)); \
    }                                                                                  \
  } while (false)
