#include "worker/runtime/executor.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dirty::worker {

void Executor::Start(uint32_t slots) {
  for (uint32_t slot = 0; slot < std::max(slots, 1u); ++slot) {
    threads_.emplace_back([this, slot] { RunCalls(slot); });
  }
}

bool Executor::Submit(std::shared_ptr<Call> call) {
  {
    MutexLock lock(mutex_);
    if (draining_) return false;
    calls_.emplace(call->number(), call);
    waiting_.push_back(std::move(call));
  }
  work_.NotifyOne();
  return true;
}

std::shared_ptr<Call> Executor::Find(uint64_t number) {
  MutexLock lock(mutex_);
  auto found = calls_.find(number);
  return found == calls_.end() ? nullptr : found->second;
}

void Executor::Cancel(uint64_t number, v1::CancelReason reason) {
  auto call = Find(number);
  if (call == nullptr) return;
  call->Cancel(reason);
  host_.OnCancelled(*call);
}

void Executor::AddCredit(uint64_t number, uint32_t chunks) {
  if (auto call = Find(number)) call->AddCredit(chunks);
}

void Executor::CancelAll(v1::CancelReason reason) {
  std::vector<std::shared_ptr<Call>> calls;
  {
    MutexLock lock(mutex_);
    for (const auto& [number, call] : calls_) calls.push_back(call);
  }
  for (const auto& call : calls) {
    call->Cancel(reason);
    host_.OnCancelled(*call);
  }
}

void Executor::Drain() {
  {
    MutexLock lock(mutex_);
    draining_ = true;
  }
  work_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Executor::RunCalls(uint32_t slot) {
  pthread_setname_np(pthread_self(), absl::StrCat("dirty-slot-", slot).c_str());
  while (true) {
    std::shared_ptr<Call> call;
    {
      MutexLock lock(mutex_);
      while (waiting_.empty() && !draining_) work_.Wait(lock);
      if (waiting_.empty()) return;
      call = std::move(waiting_.front());
      waiting_.pop_front();
    }
    call->Run(host_);
    MutexLock lock(mutex_);
    calls_.erase(call->number());
  }
}

}  // namespace dirty::worker
