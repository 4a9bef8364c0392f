#include "worker/runtime/process_title.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace dirty::worker {

ProcessTitle ProcessTitle::Prepare() {
  // /proc/self/stat, after the parenthesised name: arg_start, arg_end, env_start and env_end are fields 48 to 51.
  std::ifstream file("/proc/self/stat");
  std::string stat((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields(stat.substr(name_end + 1));
  std::vector<std::string> values((std::istream_iterator<std::string>(fields)), std::istream_iterator<std::string>());
  constexpr size_t kArgStart = 48 - 3;  // the first of `values` is field 3
  if (values.size() < kArgStart + 4) return {};
  auto address = [&](size_t i) { return strtoull(values[kArgStart + i].c_str(), nullptr, 10); };
  uint64_t arg_start = address(0), arg_end = address(1), env_start = address(2), env_end = address(3);
  if (arg_start == 0 || arg_end <= arg_start) return {};

  ProcessTitle title;
  title.start_ = reinterpret_cast<char*>(arg_start);
  title.size_ = arg_end - arg_start;
  if (env_start == arg_end && env_end > env_start) {
    title.size_ = env_end - arg_start;
    std::vector<std::string> variables;
    for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
    clearenv();
    for (const std::string& variable : variables) {
      if (size_t equals = variable.find('='); equals != std::string::npos && equals > 0) {
        setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
      }
    }
  }
  // glibc prints these in messages of its own.
  program_invocation_name = strdup(program_invocation_name);
  const char* slash = strrchr(program_invocation_name, '/');
  program_invocation_short_name = slash == nullptr ? program_invocation_name : const_cast<char*>(slash + 1);
  return title;
}

void ProcessTitle::Set(absl::string_view text) {
  if (size_ == 0) return;
  size_t length = std::min(text.size(), size_ - 1);
  memcpy(start_, text.data(), length);
  memset(start_ + length, 0, size_ - length);
}

}  // namespace dirty::worker
