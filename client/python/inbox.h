// Outcomes on their way from the client's threads, which never wait for the GIL, to an event loop. Shared by both.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "client/cpp/unique_fd.h"
#include "dirty/client_types.h"

namespace dirty::python {

class Inbox {
 public:
  // The outcome of the call `key`; none: the stream `key` is ready.
  struct Letter {
    std::uint64_t key;
    std::optional<client::RawResult> result;
  };

  Inbox() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

  // Becomes readable when there is something to take: once for many.
  int fd() const { return fd_.get(); }

  void Put(Letter letter) {
    std::lock_guard lock(mutex_);
    letters_.push_back(std::move(letter));
    if (letters_.size() == 1) eventfd_write(fd_.get(), 1);
  }

  std::vector<Letter> Take() {
    std::lock_guard lock(mutex_);
    eventfd_t count;
    eventfd_read(fd_.get(), &count);
    return std::exchange(letters_, {});
  }

 private:
  const client::internal::UniqueFd fd_;
  std::mutex mutex_;
  std::vector<Letter> letters_;
};

}  // namespace dirty::python
