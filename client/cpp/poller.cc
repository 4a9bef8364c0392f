#include "client/cpp/poller.h"

#include <absl/strings/str_cat.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <grpc/grpc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "client/cpp/unique_fd.h"

namespace dirty::client::internal {
namespace {

// Whether `address` is in the same library, or program, as gRPC.
bool InGrpc(std::uint64_t address) {
  Dl_info grpc{}, there{};
  return dladdr(reinterpret_cast<const void*>(&grpc_is_initialized), &grpc) != 0 &&
         dladdr(reinterpret_cast<const void*>(address), &there) != 0 && grpc.dli_fbase == there.dli_fbase;
}

std::string TargetOf(int fd) {
  std::error_code error;
  return std::filesystem::read_symlink(absl::StrCat("/proc/self/fd/", fd), error).string();
}

// What wakes gRPC's epoll: the one descriptor in it that is a global of gRPC's.
struct WakeUp {
  int fd = -1;
  epoll_event event{};
};

std::optional<WakeUp> WakeUpIn(int epoll) {
  std::ifstream lines(absl::StrCat("/proc/self/fdinfo/", epoll));
  for (std::string line; std::getline(lines, line);) {
    WakeUp found;
    unsigned events = 0;
    unsigned long long data = 0;
    if (std::sscanf(line.c_str(), "tfd: %d events: %x data: %llx", &found.fd, &events, &data) != 3) continue;
    if (!InGrpc(data) || TargetOf(found.fd) != "anon_inode:[eventfd]") continue;
    found.event.events = events & ~static_cast<unsigned>(EPOLLERR | EPOLLHUP);
    found.event.data.u64 = data;
    return found;
  }
  return std::nullopt;
}

// Puts `fresh` in the place of descriptor `fd`.
bool Replace(int fd, UniqueFd fresh) { return fresh && dup3(fresh.get(), fd, O_CLOEXEC) == fd; }

}  // namespace

void RenewPoller() {
  if (grpc_is_initialized() != 0) return;
  std::vector<int> epolls;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const int fd = std::atoi(entry.path().filename().c_str());
    if (TargetOf(fd) == "anon_inode:[eventpoll]") epolls.push_back(fd);
  }
  for (int fd : epolls) {
    std::optional<WakeUp> wake_up = WakeUpIn(fd);
    if (!wake_up || !Replace(wake_up->fd, UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)))) continue;
    UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
    epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake_up->fd, &wake_up->event);
    Replace(fd, std::move(epoll));
  }
}

}  // namespace dirty::client::internal
