// How many chunks of one stream may be on their way from the worker to the reader's socket.
//
// The reader allows chunks, the transport takes them, and the worker gets a credit for each that may follow: as many as
// the reader allows, but never more on their way than the window, so that a reader who allows a million chunks and
// takes none costs little memory. The window is for few large chunks or many small ones. Credits are given before their
// chunks are known: of an action whose chunks grow, MostHeld (execute_rpc.h) is the bound. Pure. Loop-confined.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace dirty {

class ChunkWindow {
 public:
  // Until chunks have shown how large they are.
  static constexpr uint32_t kFirst = 16;
  static constexpr uint32_t kLeast = 2;
  static constexpr uint32_t kMost = 256;
  // What a window may hold, if kLeast chunks are not more.
  static constexpr size_t kBytes = 4 << 20;

  // `allowed`: chunks that the reader takes for now.
  explicit ChunkWindow(uint64_t allowed) : allowed_(allowed) {}

  // The reader takes more.
  void Allow(uint32_t chunks) { allowed_ += std::min<uint64_t>(chunks, UINT64_MAX - allowed_); }
  // One came from the worker.
  void OnChunk(size_t bytes) { largest_ = std::max(largest_, bytes); }
  // The transport has taken one.
  void OnWritten() { under_way_ -= under_way_ > 0 ? 1 : 0; }

  // What the worker is to be given now. Not one by one, where many may follow: each costs a frame.
  uint32_t TakeCredits() {
    const uint32_t window = Window();
    const uint64_t more = std::min<uint64_t>(allowed_, window - std::min(window, under_way_));
    if (more < allowed_ && more < (window + 1) / 2) return 0;
    allowed_ -= more;
    under_way_ += static_cast<uint32_t>(more);
    return static_cast<uint32_t>(more);
  }

 private:
  uint32_t Window() const {
    if (largest_ == 0) return kFirst;
    return static_cast<uint32_t>(std::clamp<size_t>(kBytes / largest_, kLeast, kMost));
  }

  uint64_t allowed_;        // by the reader, and not yet given to the worker
  uint32_t under_way_ = 0;  // given to the worker, and not yet taken by the transport
  size_t largest_ = 0;
};

}  // namespace dirty
