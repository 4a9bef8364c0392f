#include "server/rpc/watch.h"

#include <deque>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/dispatch/errors.h"
#include "server/rpc/listener.h"
#include "server/rpc/status.h"

namespace dirty {
namespace {

// What a reader that does not keep up can have waiting; then it misses the oldest.
constexpr size_t kMostWaiting = 1000;

// One reader. Deletes itself when gRPC says that the call is done and no operation of it is under way.
class WatchCall final : private Arbiter::Watcher {
 public:
  WatchCall(v1::Admin::AsyncService& service, Arbiter& arbiter, Loop& loop)
      : service_(service), arbiter_(arbiter), loop_(loop), writer_(&context_) {
    context_.AsyncNotifyWhenDone(&done_tag_);
    service_.RequestWatch(&context_, &request_, &writer_, loop_.queue(), loop_.queue(), &arrived_tag_);
  }

 private:
  void OnArrived(bool ok) {
    if (!ok) {
      delete this;  // the done tag of a call that never was does not come
      return;
    }
    new WatchCall(service_, arbiter_, loop_);
    busy_ = true;
    if (!IsAdmin(context_)) {
      refused_ = true;
      writer_.Finish(ToStatus(*errors::PermissionDenied("Admin.Watch")), &written_tag_);
      return;
    }
    arbiter_.AddWatcher(this);
    // Tells the reader that it misses nothing from now on.
    writer_.SendInitialMetadata(&written_tag_);
  }

  void OnEvent(const std::shared_ptr<const v1::Event>& event) override {
    if (waiting_.size() >= kMostWaiting) {
      waiting_.pop_front();
      ++missed_;
    }
    waiting_.push_back(event);
    WriteNext();
  }

  void WriteNext() {
    if (busy_ || done_ || refused_ || waiting_.empty()) return;
    busy_ = true;
    std::shared_ptr<const v1::Event> event = std::move(waiting_.front());
    waiting_.pop_front();
    if (missed_ == 0) return writer_.Write(*event, &written_tag_);
    v1::Event copy = *event;
    copy.set_missed(std::exchange(missed_, 0));
    writer_.Write(copy, &written_tag_);
  }

  void OnWritten(bool ok) {
    busy_ = false;
    if (done_) {
      delete this;
    } else if (ok) {
      WriteNext();
    }  // else the reader has left: the done tag says so too
  }

  void OnDone(bool) {
    done_ = true;
    arbiter_.RemoveWatcher(this);
    if (!busy_) delete this;
  }

  v1::Admin::AsyncService& service_;
  Arbiter& arbiter_;
  Loop& loop_;
  grpc::ServerContext context_;
  v1::WatchRequest request_;
  grpc::ServerAsyncWriter<v1::Event> writer_;
  std::deque<std::shared_ptr<const v1::Event>> waiting_;
  uint64_t missed_ = 0;
  bool busy_ = false;
  bool done_ = false;
  bool refused_ = false;
  MemberCompletion<WatchCall> arrived_tag_{this, &WatchCall::OnArrived};
  MemberCompletion<WatchCall> written_tag_{this, &WatchCall::OnWritten};
  MemberCompletion<WatchCall> done_tag_{this, &WatchCall::OnDone};
};

}  // namespace

void StartWatch(v1::Admin::AsyncService& service, Arbiter& arbiter, Loop& loop) {
  new WatchCall(service, arbiter, loop);
}

}  // namespace dirty
