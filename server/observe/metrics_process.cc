// This process as the kernel sees it.

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <ctime>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "server/loop/unique_fd.h"
#include "server/observe/metrics.h"

namespace dirty {
namespace {

std::string ReadStart(const char* path) {
  UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  std::array<char, 2048> text;
  const ssize_t size = file.ok() ? read(file.get(), text.data(), text.size()) : 0;
  return std::string(text.data(), static_cast<size_t>(size > 0 ? size : 0));
}

uint64_t CountDescriptors() {
  struct stat folder;
  // Since Linux 6.2 their number is the folder's size.
  if (stat("/proc/self/fd", &folder) == 0 && folder.st_size > 0) return static_cast<uint64_t>(folder.st_size);
  DIR* entries = opendir("/proc/self/fd");
  if (entries == nullptr) return 0;
  uint64_t count = 0;
  while (const dirent* entry = readdir(entries)) count += entry->d_name[0] == '.' ? 0 : 1;
  closedir(entries);
  return count - 1;  // the folder's own
}

// The wall clock's time at which this machine's ticks were zero.
double BootTime() {
  timespec wall, boot;
  clock_gettime(CLOCK_REALTIME, &wall);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  return static_cast<double>(wall.tv_sec - boot.tv_sec) + static_cast<double>(wall.tv_nsec - boot.tv_nsec) * 1e-9;
}

}  // namespace

ProcessMetrics ReadProcessMetrics() {
  ProcessMetrics process;
  process.open_descriptors = CountDescriptors();
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) process.max_descriptors = limit.rlim_cur;
  // proc(5): what follows the name in parentheses, which may hold anything, begins with the third field.
  const std::string stat = ReadStart("/proc/self/stat");
  const size_t name_end = stat.rfind(") ");
  if (name_end == std::string::npos) return process;
  const std::vector<absl::string_view> fields = absl::StrSplit(absl::string_view(stat).substr(name_end + 2), ' ');
  auto field = [&](size_t number) {
    uint64_t value = 0;
    return number - 3 < fields.size() && absl::SimpleAtoi(fields[number - 3], &value) ? value : 0;
  };
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  process.cpu_seconds = static_cast<double>(field(14) + field(15)) / ticks;
  process.threads = field(20);
  // Once: the clocks are read one after the other, and the start would seem to move.
  static const double start = BootTime() + static_cast<double>(field(22)) / ticks;
  process.start_time_seconds = start;
  process.virtual_bytes = field(23);
  process.resident_bytes = field(24) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return process;
}

}  // namespace dirty
