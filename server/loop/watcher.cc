#include "server/loop/watcher.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "server/loop/check.h"
#include "server/loop/start_thread.h"

namespace dirty {
namespace {

constexpr absl::Duration kPause = absl::Milliseconds(100);
constexpr int kBatch = 64;

}  // namespace

Watcher::Watcher() : epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  DIRTY_CHECK(epoll_.ok() && wake_.ok(), "cannot make an epoll or event descriptor");
  epoll_event event = {.events = EPOLLIN, .data = {.u64 = 0}};
  DIRTY_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) == 0, "epoll_ctl");
  const SignalsHeldBack held;  // they are for the signal descriptor and the main thread
  thread_ = std::thread([this] { Main(); });
  pthread_setname_np(thread_.native_handle(), "dirtyd-watcher");
}

Watcher::~Watcher() { Stop(); }

void Watcher::Stop() {
  {
    MutexLock lock(&mutex_);
    if (std::exchange(stop_, true)) return;
  }
  uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof one);
  thread_.join();
  entries_.clear();
}

Watcher::Id Watcher::Watch(UniqueFd fd, uint32_t events, Callback callback) {
  Id id = next_id_.fetch_add(1);
  auto entry = std::make_shared<std::unique_ptr<Entry>>(std::make_unique<Entry>());
  (*entry)->fd = std::move(fd);
  (*entry)->events = events;
  (*entry)->callback = std::move(callback);
  Run([this, id, entry] {
    epoll_event event = {.events = (*entry)->events, .data = {.u64 = id}};
    // A regular file cannot be watched: it is a mistake of ours.
    DIRTY_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, (*entry)->fd.get(), &event) == 0, "epoll_ctl");
    entries_[id] = std::move(*entry);
  });
  return id;
}

void Watcher::Forget(Id id, std::function<void()> closed) {
  Run([this, id, closed = std::move(closed)] {
    Erase(id);
    if (closed) closed();
  });
}

void Watcher::Run(std::function<void()> work) {
  {
    MutexLock lock(&mutex_);
    if (stop_) return;
    work_.push_back(std::move(work));
  }
  uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof one);
}

void Watcher::Main() {
  for (;;) {
    epoll_event events[kBatch];
    int timeout = paused_.empty() ? -1 : static_cast<int>(absl::ToInt64Milliseconds(kPause)) / 2;
    int count = epoll_wait(epoll_.get(), events, kBatch, timeout);
    DIRTY_CHECK(count >= 0 || errno == EINTR, "epoll_wait");
    ResumePaused();
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 != 0) {
        Dispatch(events[i].data.u64, events[i].events);
        continue;
      }
      uint64_t drained;
      (void)!read(wake_.get(), &drained, sizeof drained);
      std::vector<std::function<void()>> work;
      {
        MutexLock lock(&mutex_);
        if (stop_) return;
        work.swap(work_);
      }
      for (auto& item : work) item();
    }
  }
}

void Watcher::Dispatch(Id id, uint32_t events) {
  auto it = entries_.find(id);
  if (it == entries_.end()) return;  // forgotten earlier in this batch
  Entry& entry = *it->second;
  switch (entry.callback(entry.fd.get(), events)) {
    case Next::kKeep:
      break;
    case Next::kPause:
      // Not just without events: hang-ups are reported nevertheless.
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry.fd.get(), nullptr);
      entry.paused_until = clock_.Now() + kPause;
      paused_.push_back(id);
      break;
    case Next::kClose:
      Erase(id);
      break;
  }
}

void Watcher::Erase(Id id) {
  auto it = entries_.find(id);
  if (it == entries_.end()) return;
  // Explicitly: a duplicate elsewhere (a child's, gRPC's) would keep it registered after close.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, it->second->fd.get(), nullptr);
  entries_.erase(it);
}

void Watcher::ResumePaused() {
  if (paused_.empty()) return;
  absl::Time now = clock_.Now();
  std::vector<Id> still;
  for (Id id : paused_) {
    auto it = entries_.find(id);
    if (it == entries_.end()) continue;
    if (it->second->paused_until > now) {
      still.push_back(id);
      continue;
    }
    epoll_event event = {.events = it->second->events, .data = {.u64 = id}};
    DIRTY_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, it->second->fd.get(), &event) == 0, "epoll_ctl");
  }
  paused_ = std::move(still);
}

}  // namespace dirty
