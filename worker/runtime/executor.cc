#include "worker/runtime/executor.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace dirty::worker {

void Executor::Start(uint32_t slots) {
  {
    MutexLock lock(mutex_);
    only_ = slots <= 1;
  }
  for (uint32_t slot = 0; slot < std::max(slots, 1u); ++slot) {
    threads_.emplace_back([this, slot] { RunCalls(slot); });
  }
}

void Executor::Submit(std::shared_ptr<Call> call) {
  {
    MutexLock lock(mutex_);
    if (draining_) return;
    calls_.emplace(call->number(), call);
    waiting_.push_back(std::move(call));
    if (leads_) return;  // this is its thread
    if (free_) {
      handing_ = true;  // not before this thread is out of the link
      return;
    }
  }
  work_.NotifyOne();
}

void Executor::Serve() {
  auto nothing_to_hand_over = [this] {
    MutexLock lock(mutex_);
    return !handing_;
  };
  while (link_.Poll(nothing_to_hand_over)) {
    if (!HandOver()) continue;
    lead_.Watch();
    MutexLock lock(mutex_);
    leads_ = false;
  }
}

bool Executor::HandOver() {
  {
    MutexLock lock(mutex_);
    handing_ = false;
    if (!free_ || waiting_.empty()) return false;
    leads_ = true;
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
    if (std::exchange(draining_, true)) return;
  }
  work_.NotifyAll();
  if (!threads_.empty()) link_.Interrupt();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

std::shared_ptr<Call> Executor::WaitForCall() {
  MutexLock lock(mutex_);
  free_ = only_;
  while (waiting_.empty() && !draining_) work_.Wait(lock);
  free_ = false;
  if (waiting_.empty()) return nullptr;
  std::shared_ptr<Call> call = std::move(waiting_.front());
  waiting_.pop_front();
  return call;
}

std::shared_ptr<Call> Executor::PollForCall() {
  auto nothing_to_do = [this] {
    MutexLock lock(mutex_);
    return waiting_.empty() && !draining_;
  };
  bool open = link_.Poll(nothing_to_do);
  MutexLock lock(mutex_);
  if (!open || waiting_.empty()) {
    leads_ = false;
    lead_.Return();
    return nullptr;
  }
  std::shared_ptr<Call> call = std::move(waiting_.front());
  waiting_.pop_front();
  return call;
}

void Executor::RunCalls(uint32_t slot) {
  pthread_setname_np(pthread_self(), absl::StrCat("dirty-slot-", slot).c_str());
  bool leads = false;
  while (true) {
    std::shared_ptr<Call> call = leads ? PollForCall() : nullptr;
    if (call == nullptr) {
      call = WaitForCall();
      if (call == nullptr) return;
      MutexLock lock(mutex_);
      leads = leads_;
    }
    if (leads) lead_.Begin();
    call->Run(host_);
    if (leads) leads = lead_.End();
    MutexLock lock(mutex_);
    calls_.erase(call->number());
    leads_ = leads;
  }
}

}  // namespace dirty::worker
