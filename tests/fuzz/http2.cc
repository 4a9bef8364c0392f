#include "tests/fuzz/http2.h"

#include <algorithm>
#include <utility>

namespace dirty::fuzz {
namespace {

constexpr size_t kPreface = 24;
constexpr size_t kHead = 9;
constexpr size_t kMostBytes = 256 << 10;

uint32_t Length(absl::string_view frame) {
  auto at = [&](size_t i) { return uint32_t{static_cast<uint8_t>(frame[i])}; };
  return at(0) << 16 | at(1) << 8 | at(2);
}

void SetLength(std::string& frame) {
  const size_t length = frame.size() - kHead;
  for (size_t i = 0; i < 3; ++i) frame[i] = static_cast<char>(length >> (16 - 8 * i));
}

class Mutator {
 public:
  Mutator(Conversation& conversation, const std::vector<Conversation>& others, std::mt19937_64& random)
      : frames_(conversation.frames), preface_(conversation.preface), others_(others), random_(random) {}

  void Change() {
    if (frames_.empty() || Below(40) == 0) return ChangeBytes(preface_);
    std::string& frame = frames_[Below(frames_.size())];
    const auto place = frames_.begin() + static_cast<ptrdiff_t>(Below(frames_.size()));
    switch (Below(13)) {
      case 0:  // its payload, and its length with it
        if (frame.size() < kHead) return;
        ChangeBytes(frame, kHead);
        return SetLength(frame);
      case 1:
        return ChangeBytes(frame);
      case 2:  // a length that lies
        if (frame.size() >= kHead) frame[Below(3)] = static_cast<char>(Byte());
        return;
      case 3:
        if (frame.size() >= kHead) frame[3] = static_cast<char>(Below(12));
        return;
      case 4:
        if (frame.size() >= kHead) frame[4] = static_cast<char>(1u << Below(8));
        return;
      case 5:
        if (frame.size() >= kHead) SetStream(frame);
        return;
      case 6:
        frames_.erase(place);
        return;
      case 7:
        std::swap(frame, *place);
        return;
      case 8: {
        std::string copy = frame;
        frames_.insert(place, 1 + Below(Below(20) == 0 ? 300 : 4), copy);
        return;
      }
      case 9: {
        const std::vector<std::string>& lent = others_[Below(others_.size())].frames;
        if (!lent.empty()) frames_.insert(place, lent[Below(lent.size())]);
        return;
      }
      case 10:
        frame.resize(Below(frame.size() + 1));
        return;
      case 11:
        frames_.insert(place, Frame());
        return;
      default:
        frames_.resize(Below(frames_.size() + 1));
    }
  }

 private:
  size_t Below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }
  uint8_t Byte() {
    static constexpr uint8_t kEnds[] = {0, 1, 0x7f, 0x80, 0xfe, 0xff};
    return Below(3) == 0 ? kEnds[Below(sizeof kEnds)] : static_cast<uint8_t>(random_());
  }

  void SetStream(std::string& frame) {
    static constexpr uint32_t kStreams[] = {0, 1, 2, 3, 5, 7, 0x7fffffff, 0x80000001, 0xffffffff};
    const uint32_t stream = kStreams[Below(std::size(kStreams))];
    for (size_t i = 0; i < 4; ++i) frame[5 + i] = static_cast<char>(stream >> (24 - 8 * i));
  }

  // One of any kind, with a payload that means nothing.
  std::string Frame() {
    std::string frame(kHead, '\0');
    frame[3] = static_cast<char>(Below(12));
    frame[4] = static_cast<char>(Byte());
    SetStream(frame);
    static constexpr size_t kSizes[] = {0, 1, 4, 5, 6, 8, 12, 100, 16384, 16385};
    frame.append(kSizes[Below(std::size(kSizes))], static_cast<char>(Byte()));
    SetLength(frame);
    return frame;
  }

  void ChangeBytes(std::string& text, size_t from = 0) {
    const size_t times = 1 + Below(4);
    for (size_t i = 0; i < times; ++i) {
      const size_t at = from + Below(text.size() - from + 1);
      switch (Below(4)) {
        case 0:
          if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << Below(8)));
          break;
        case 1:
          if (at < text.size()) text[at] = static_cast<char>(Byte());
          break;
        case 2:
          text.insert(at, 1 + Below(Below(10) == 0 ? 2000 : 8), static_cast<char>(Byte()));
          break;
        default:
          text.erase(at, 1 + Below(8));
      }
    }
  }

  std::vector<std::string>& frames_;
  std::string& preface_;
  const std::vector<Conversation>& others_;
  std::mt19937_64& random_;
};

}  // namespace

Conversation Conversation::Parse(absl::string_view bytes) {
  Conversation conversation;
  conversation.preface = std::string(bytes.substr(0, kPreface));
  bytes.remove_prefix(std::min(bytes.size(), kPreface));
  while (!bytes.empty()) {
    const size_t size = bytes.size() < kHead ? bytes.size() : kHead + Length(bytes);
    conversation.frames.emplace_back(bytes.substr(0, size));
    bytes.remove_prefix(std::min(bytes.size(), size));
  }
  return conversation;
}

std::string Conversation::Bytes() const {
  std::string bytes = preface;
  for (const std::string& frame : frames) bytes += frame;
  return bytes;
}

std::string Mutate(Conversation conversation, const std::vector<Conversation>& others, std::mt19937_64& random) {
  Mutator mutator(conversation, others, random);
  for (uint64_t changes = 1 + random() % 6; changes > 0; --changes) mutator.Change();
  std::string bytes = conversation.Bytes();
  if (bytes.size() > kMostBytes) bytes.resize(kMostBytes);
  return bytes;
}

}  // namespace dirty::fuzz
