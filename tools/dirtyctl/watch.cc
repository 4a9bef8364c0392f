#include "tools/dirtyctl/watch.h"

#include <absl/strings/str_cat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <iostream>

#include "tools/dirtyctl/report.h"
#include "tools/dirtyctl/text.h"

namespace dirty::ctl {
namespace {

constexpr auto kLastEventTime = std::chrono::milliseconds(500);

}  // namespace

std::string EventText(const v1::Event& event) {
  return absl::StrCat(event.missed() == 0 ? "" : absl::StrCat("(", event.missed(), " events missed)\n"),
                      absl::FormatTime("%H:%M:%E3S", ToTime(event.time()), absl::LocalTimeZone()), "  ",
                      Printable(event.message()), "\n");
}

int PrintEvents(v1::Admin::Stub& admin, const std::string& socket, bool json) {
  // Each line is out before the next event is read: there is nothing to tidy up.
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { _exit(kDone); });
  grpc::ClientContext context;
  auto reader = admin.Watch(&context, v1::WatchRequest());
  v1::Event event;
  while (reader->Read(&event)) {
    std::cout << (json ? ToJson(event, false) : EventText(event)) << std::flush;
    if (!std::cout) return kFailed;
  }
  const grpc::Status status = reader->Finish();
  if (status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE ||
      status.error_code() == grpc::StatusCode::CANCELLED) {
    std::cerr << "dirtyctl: dirtyd went away (" << socket << ")\n";
    return kUnreachable;
  }
  return Fail(status, socket);
}

Progress::Progress(v1::Admin::Stub& admin)
    : reader_(admin.Watch(&context_, v1::WatchRequest())), thread_([this] { Print(); }) {}

Progress::~Progress() {
  if (thread_.joinable()) End(false);
}

void Progress::Print() {
  v1::Event event;
  while (reader_->Read(&event)) {
    std::cerr << EventText(event) << std::flush;
    if (event.has_reloaded()) {
      const std::lock_guard lock(mutex_);
      complete_ = true;
      changed_.notify_all();
    }
  }
  (void)reader_->Finish();
  const std::lock_guard lock(mutex_);
  complete_ = true;
  changed_.notify_all();
}

void Progress::End(bool reloaded) {
  if (reloaded) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kLastEventTime, [this] { return complete_; });
  }
  context_.TryCancel();
  thread_.join();
}

}  // namespace dirty::ctl
