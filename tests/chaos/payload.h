// Checksummed payloads in C++: the same as payload.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace dirty::chaos {

// CRC-32 as of zlib.
inline uint32_t Checksum(std::string_view bytes, uint32_t before = 0) {
  static const std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) table[i] = (table[i] >> 1) ^ ((table[i] & 1) != 0 ? 0xEDB88320u : 0);
    }
    return table;
  }();
  uint32_t sum = ~before;
  for (char byte : bytes) sum = kTable[(sum ^ static_cast<uint8_t>(byte)) & 0xFF] ^ (sum >> 8);
  return ~sum;
}

inline uint32_t Checksum(std::string_view text, std::string_view blob) { return Checksum(blob, Checksum(text)); }

// What an app makes of a payload.
inline std::string Transformed(std::string_view text) { return "\u00ab" + std::string(text) + "\u00bb"; }
inline std::string Reversed(std::string_view blob) { return {blob.rbegin(), blob.rend()}; }

// Part `index` of `count` of a payload that is streamed.
inline std::string_view Part(std::string_view blob, size_t index, size_t count) {
  const size_t begin = blob.size() * index / count;
  return blob.substr(begin, blob.size() * (index + 1) / count - begin);
}

}  // namespace dirty::chaos
