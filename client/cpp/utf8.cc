#include "client/cpp/utf8.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dirty::client::internal {
namespace {

constexpr std::uint64_t kHighBits = 0x8080808080808080;

// How many bytes of text are ASCII at its start, but for some at their end.
std::size_t Ascii(absl::string_view text) {
  std::size_t at = 0;
  for (std::uint64_t words[4]; at + sizeof(words) <= text.size(); at += sizeof(words)) {
    std::memcpy(words, text.data() + at, sizeof(words));
    if (((words[0] | words[1] | words[2] | words[3]) & kHighBits) != 0) break;
  }
  return at;
}

// The length of the character at the start, which is not ASCII; 0: it is none. The second byte is in a range that
// depends on the first: longer forms than needed, surrogates and what is above U+10FFFF are no characters.
std::size_t Character(absl::string_view text) {
  auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char first = byte(0);
  if (first < 0xc2 || first > 0xf4) return 0;
  const std::size_t length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (text.size() < length) return 0;
  const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t at = 2; at < length; ++at) {
    if ((byte(at) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

bool IsUtf8(absl::string_view text) {
  text.remove_prefix(Ascii(text));
  for (std::size_t plain = 0; !text.empty();) {
    if (static_cast<unsigned char>(text.front()) < 0x80) {
      text.remove_prefix(1);
      if (++plain < 16) continue;
      text.remove_prefix(Ascii(text));
    } else {
      const std::size_t length = Character(text);
      if (length == 0) return false;
      text.remove_prefix(length);
    }
    plain = 0;
  }
  return true;
}

}  // namespace dirty::client::internal
