// Texts that are cut: errors, logs and Status have bounds, and half a character is no UTF-8, so that a frame with one
// cannot be parsed by who gets it. Pure.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace dirty {

// Inside a character of UTF-8.
constexpr bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// The first `size` bytes of a text at most, without half a character.
constexpr absl::string_view Beginning(absl::string_view text, size_t size) {
  if (text.size() <= size) return text;
  while (size > 0 && IsContinuation(text[size])) --size;
  return text.substr(0, size);
}

// The last ones.
constexpr absl::string_view Ending(absl::string_view text, size_t size) {
  if (text.size() <= size) return text;
  size_t start = text.size() - size;
  while (start < text.size() && IsContinuation(text[start])) ++start;
  return text.substr(start);
}

}  // namespace dirty
