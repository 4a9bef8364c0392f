#include "server/observe/worker_output.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace dirty {
namespace {

bool ContinuesUtf8(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// The longest start of `text` of at most `limit` bytes that does not cut a UTF-8 sequence.
size_t CutAt(absl::string_view text, size_t limit) {
  if (text.size() <= limit) return text.size();
  size_t cut = limit;
  while (cut > 0 && limit - cut < 4 && ContinuesUtf8(text[cut])) --cut;
  return ContinuesUtf8(text[cut]) || cut == 0 ? limit : cut;
}

// As much of it as is kept.
std::string Cut(absl::string_view line) {
  return std::string(line.substr(0, CutAt(line, WorkerOutput::kTailLineBytes)));
}

}  // namespace

WorkerOutput::WorkerOutput(uint32_t worker, absl::string_view stream, Logger& log, std::string hook)
    : worker_(worker == 0 ? "" : absl::StrCat(worker)), stream_(stream), hook_(std::move(hook)), log_(log) {}

void WorkerOutput::Append(absl::string_view data) {
  partial_.append(data.data(), data.size());
  absl::string_view rest = partial_;
  for (;;) {
    size_t end = rest.find('\n');
    bool whole = end != absl::string_view::npos && end <= kLongestLine;
    if (!whole && rest.size() <= kLongestLine) break;
    size_t length = whole ? end : CutAt(rest, kLongestLine);
    // A line that was cut exactly before its newline is complete already.
    if (!(whole && length == 0 && split_)) Line(rest.substr(0, length));
    split_ = !whole;
    rest.remove_prefix(whole ? length + 1 : length);
  }
  partial_.erase(0, partial_.size() - rest.size());
}

void WorkerOutput::Finish() {
  if (!partial_.empty()) Line(partial_);
  partial_.clear();
}

void WorkerOutput::Line(absl::string_view line) {
  std::string printable = Printable(absl::StripSuffix(line, "\r"));
  std::string stream(stream_);
  LookForDump(printable);
  // What a process says as it dies is wanted at every level that is usual.
  LogLevel level = dying_ ? LogLevel::kWarning : LogLevel::kInfo;
  if (hook_.empty()) {
    log_.Log(level, printable, {{"worker", worker_}, {"stream", stream}});
  } else if (worker_.empty()) {
    log_.Log(level, printable, {{"hook", hook_}, {"stream", stream}});
  } else {
    log_.Log(level, printable, {{"hook", hook_}, {"worker", worker_}, {"stream", stream}});
  }
  tail_.push_back(Cut(printable));
  if (tail_.size() > kTailLines) tail_.pop_front();
}

// Python's faulthandler prints the innermost frame of a thread first. Of threads that did not fail, one that is in an
// app tells more than one that waits for calls.
void WorkerOutput::LookForDump(absl::string_view line) {
  constexpr absl::string_view kFrame = "  File ", kRuntime = "/dirty_worker/";
  const bool fatal = absl::StartsWith(line, "Fatal Python error");
  if (fatal || absl::StartsWith(line, "stacks of pid ")) {
    dying_ = true;
    fatal_ = fatal ? Cut(line) : "";
    frame_.clear();
    culprit_ = frame_next_ = false;
  } else if (dying_ && absl::StartsWith(line, "Current thread ")) {
    frame_.clear();
    culprit_ = frame_next_ = true;
  } else if (dying_ && absl::StartsWith(line, "Thread ")) {
    frame_next_ = !culprit_;
  } else if (std::exchange(frame_next_, false) && absl::StartsWith(line, kFrame)) {
    if (frame_.empty() || !absl::StrContains(line, kRuntime)) frame_ = Cut(line.substr(2));
  }
}

std::string WorkerOutput::LastWords() const {
  if (!fatal_.empty()) return frame_.empty() ? fatal_ : absl::StrCat(fatal_, ", in ", frame_);
  if (!frame_.empty()) return absl::StrCat("it was in ", frame_);
  return tail_.empty() ? "" : tail_.back();
}

}  // namespace dirty
