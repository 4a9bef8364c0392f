// HTTP/2 as bytes that are wrong: a conversation as a client sends it, cut into frames, and changed at random. Pure.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace dirty::fuzz {

// What a client sends on one connection.
struct Conversation {
  std::string preface;  // "PRI * HTTP/2.0 ..."; whatever comes before the first frame
  std::vector<std::string> frames;

  static Conversation Parse(absl::string_view bytes);
  std::string Bytes() const;
};

// A conversation changed in a few places; `others` lend frames. The same numbers make the same bytes.
std::string Mutate(Conversation conversation, const std::vector<Conversation>& others, std::mt19937_64& random);

}  // namespace dirty::fuzz
