// What fuzz targets share: how they take an input apart, and how they say that something is wrong.
#pragma once

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/loop/check.h"

// A property of the program under test: with the values given where it does not hold, which ends the process.
#define FUZZ_EXPECT(condition, ...) DIRTY_CHECK(condition, __VA_ARGS__)

namespace dirty::fuzz {

// An input as a sequence of choices. After its end every choice is 0, "" or none.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  bool empty() const { return rest_.empty(); }
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    return byte;
  }
  // At most 256.
  uint32_t Below(uint32_t bound) { return Byte() % bound; }
  template <typename T, size_t kSize>
  const T& OneOf(const T (&values)[kSize]) {
    return values[Below(kSize)];
  }
  // Mostly small; the ends of every width are one choice away.
  uint64_t Number() {
    const uint8_t byte = Byte();
    if (byte < 0xf0) return byte;
    static constexpr uint64_t kEnds[] = {0xff,       0x100,      0xffff,     1u << 31,   (1u << 31) - 1,
                                         0xffffffff, 1ull << 32, 1ull << 62, 1ull << 63, (1ull << 63) - 1,
                                         ~0ull,      ~0ull - 1,  1000000000, 86400,      3155760000,
                                         1ull << 53};
    return kEnds[byte - 0xf0];
  }
  // Its length in one byte, then the bytes.
  std::string Bytes() {
    const size_t size = Byte();
    std::string bytes(rest_.substr(0, size));
    rest_.remove_prefix(bytes.size());
    return bytes;
  }

 private:
  absl::string_view rest_;
};

}  // namespace dirty::fuzz
