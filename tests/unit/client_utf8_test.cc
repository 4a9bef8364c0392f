// What counts as text.

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/escaping.h"
#include "client/cpp/utf8.h"
#include "dirty/client.h"

namespace dirty::client {
namespace {

using internal::IsUtf8;

// As 2, 3 or 4 bytes, also where fewer would do.
std::string Encoded(unsigned code, int length) {
  std::string text(static_cast<std::size_t>(length), '\0');
  for (int at = length - 1; at > 0; --at, code >>= 6)
    text[static_cast<std::size_t>(at)] = static_cast<char>(0x80 | (code & 0x3f));
  text[0] = static_cast<char>((0xf00 >> length) | code);
  return text;
}

int Needed(unsigned code) { return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4; }

TEST(ClientUtf8, EveryCharacterInItsShortestFormAndNothingElse) {
  for (int c = 0; c < 256; ++c) EXPECT_EQ(IsUtf8(std::string(1, static_cast<char>(c))), c < 0x80) << c;
  for (int length = 2; length <= 4; ++length) {
    for (unsigned code = 0; code < 1U << (length * 5 + 1); ++code) {
      const bool right = Needed(code) == length && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
      ASSERT_EQ(IsUtf8(Encoded(code, length)), right) << length << " bytes of " << std::hex << code;
    }
  }
}

TEST(ClientUtf8, WhatIsCutOffOrOutOfPlaceIsSeenAnywhere) {
  for (const std::string wrong : {"\xff", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\x80", "\xc3(", "\xe2(\xa1", "\xe2\x82(",
                                  "\xf0\x9f\x98(", "\xf8\x88\x80\x80\x80"}) {
    for (std::size_t before = 0; before < 70; ++before) {
      for (const std::size_t after : {0, 1, 40}) {
        const std::string text = std::string(before, 'x') + wrong + std::string(after, 'x');
        EXPECT_FALSE(IsUtf8(text)) << absl::CHexEscape(text);
      }
    }
  }
  for (std::size_t before = 0; before < 70; ++before) {
    EXPECT_TRUE(IsUtf8(std::string(before, 'x') + "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" + std::string(before, 'y')));
  }
  EXPECT_TRUE(IsUtf8(""));
}

TEST(ClientUtf8, ACallThatIsNotTextIsRefusedAndNamesTheField) {
  Client client({.socket = "/nowhere"});
  const std::string wrong = "\"\xff\"";
  auto refused = [](const RawResult& result, const std::string& field) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().reason, Reason::kInvalidRequest);
    EXPECT_EQ(result.error().message, field + " is not valid UTF-8");
  };
  refused(client.ExecuteRaw(wrong, "b", "", ""), "app");
  refused(client.ExecuteRaw("a", wrong, "", ""), "action");
  refused(client.ExecuteRaw("a", "b", wrong, ""), "args");
  refused(client.ExecuteRaw("a", "b", "", wrong), "kwargs");
  refused(client.ExecuteRaw("a", "b", "", "", {.request_id = wrong}), "request_id");
}

}  // namespace
}  // namespace dirty::client
