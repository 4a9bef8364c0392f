// The JSON of calls: what is refused, in which words, and what passes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "worker/native/arguments.h"
#include "worker/runtime/failure.h"
#include "worker/runtime/json_text.h"

namespace dirty::worker {
namespace {

v1::ExecuteRequest Request(const std::string& args, const std::string& kwargs, int attachments = 0) {
  v1::ExecuteRequest request;
  request.set_args(args);
  request.set_kwargs(kwargs);
  for (int i = 0; i < attachments; ++i) request.add_attachments("bytes");
  return request;
}

// What the worker says to a request; empty if it takes it.
std::string Fault(const std::string& args, const std::string& kwargs, int attachments = 0, uint32_t max_depth = 128) {
  v1::ExecuteRequest request = Request(args, kwargs, attachments);
  if (auto wrong = CheckShapes(request, max_depth)) return *wrong;
  return std::string(ParseArguments(request).status().message());
}

std::string Nested(size_t levels, char open = '[', char close = ']') {
  return std::string(levels, open) + std::string(levels, close);
}

TEST(Arguments, EmptyMeansNone) {
  auto arguments = ParseArguments(Request("", ""));
  ASSERT_TRUE(arguments.ok());
  EXPECT_EQ(arguments->args, Json::array());
  EXPECT_EQ(arguments->kwargs, Json::object());
}

TEST(Arguments, AreParsedOnce) {
  auto arguments = ParseArguments(Request(R"( [1, "two", {"$attachment": 0}] )", R"({"k": [null]})", 1));
  ASSERT_TRUE(arguments.ok()) << arguments.status();
  EXPECT_EQ(arguments->args, Json::parse(R"([1, "two", {"$attachment": 0}])"));
  EXPECT_EQ(arguments->kwargs, Json::parse(R"({"k": [null]})"));
}

TEST(Arguments, FaultsSayWhatAndWhere) {
  EXPECT_EQ(Fault("[1, 2", ""), "args is not JSON: unexpected end of input at byte 6");
  EXPECT_EQ(Fault("[1, nope]", ""), "args is not JSON: invalid literal at byte 6");
  EXPECT_EQ(Fault("nope", ""), "args is not JSON: invalid literal at byte 1");
  EXPECT_EQ(Fault("  ", ""), "args is not JSON: only white space at byte 2");
  EXPECT_EQ(Fault("[1] 2", ""), "args is not JSON: unexpected number literal at byte 5");
  EXPECT_EQ(Fault(std::string("[1]\0]]", 6), ""), "args is not JSON: a zero byte at byte 4");
  EXPECT_EQ(Fault(std::string("[\"a\0\"]", 6), ""), "args is not JSON: a zero byte at byte 4");
  EXPECT_EQ(Fault("[\"\xff\"]", ""), "args is not JSON: invalid string: ill-formed UTF-8 byte at byte 3");
  EXPECT_EQ(Fault("", "{\"a\": }"), "kwargs is not JSON: unexpected '}' at byte 7");
  EXPECT_EQ(Fault("{}", ""), "args must be a JSON array, got object");
  EXPECT_EQ(Fault("\"x\"", ""), "args must be a JSON array, got string");
  EXPECT_EQ(Fault("null", ""), "args must be a JSON array, got null");
  EXPECT_EQ(Fault(" -1", ""), "args must be a JSON array, got number");
  EXPECT_EQ(Fault("", "[]"), "kwargs must be a JSON object, got array");
  EXPECT_EQ(Fault("[1e999]", ""), "args has a number that is too large for a double");
}

TEST(Arguments, BadReferencesSayWhere) {
  EXPECT_EQ(Fault("", R"({"image": {"$attachment": 3}})", 1), "kwargs.image references attachment 3; the call has 1");
  EXPECT_EQ(Fault(R"([0, {"deep": [{"$attachment": 0}]}])", "", 0),
            "args[1].deep[0] references attachment 0; the call has 0");
  EXPECT_EQ(Fault(R"([{"$attachment": -1}])", "", 1), "args[0] has an $attachment that is not a number from 0");
  EXPECT_EQ(Fault(R"([{"$attachment": "0"}])", "", 1), "args[0] has an $attachment that is not a number from 0");
  EXPECT_EQ(Fault("", R"({"$attachment": 5})", 1), "kwargs references attachment 5; the call has 1");
  // Spelt differently, it is the same name.
  EXPECT_EQ(Fault(R"([{"\u0024attachment": 2}])", "", 1), "args[0] references attachment 2; the call has 1");
  EXPECT_EQ(Fault(R"([{"$attachment": 18446744073709551615}])", "", 1),
            "args[0] references attachment 18446744073709551615; the call has 1");
}

TEST(Arguments, AnObjectWithMoreKeysIsNoReference) {
  EXPECT_EQ(Fault(R"([{"$attachment": 9, "other": 1}, {"$attachment_": 9}])", ""), "");
}

TEST(Arguments, DepthIsLimited) {
  EXPECT_EQ(Fault(Nested(128), ""), "");
  EXPECT_EQ(Fault(Nested(129), ""), "args is 129 levels deep; at most 128 are allowed (max_json_depth)");
  EXPECT_EQ(Fault(Nested(300), ""), "args is 300 levels deep; at most 128 are allowed (max_json_depth)");
  EXPECT_EQ(Fault("", R"({"a": )" + Nested(128) + "}"),
            "kwargs is 129 levels deep; at most 128 are allowed (max_json_depth)");
}

TEST(Arguments, WithoutALimitDepthStillCannotOverflow) {
  EXPECT_EQ(Fault(Nested(kDeepestJson), "", 0, 0), "");
  EXPECT_EQ(Fault(Nested(5'000'000), "", 0, 0),
            "args is 5000000 levels deep; at most 1000 are allowed (max_json_depth)");
  EXPECT_EQ(Fault(std::string(5'000'000, '['), "", 0, 1u << 30),
            "args is 5000000 levels deep; at most 1000 are allowed (max_json_depth)");
}

TEST(Arguments, BracketsInStringsAreNotLevels) {
  EXPECT_EQ(JsonDepth(R"(["[[[[", "\"[[[", "\\", ["]]]"]])"), 2u);
  EXPECT_EQ(JsonDepth(R"(["unterminated [)"), 1u);
  EXPECT_EQ(JsonDepth("]]]["), 1u);
  EXPECT_EQ(JsonDepth("\"\\"), 0u);
}

std::string ResultFault(const Json& value, int attachments = 0, uint32_t max_depth = 128) {
  return std::string(WriteJson("result", value, attachments, max_depth).status().message());
}

TEST(Results, AreWritten) {
  EXPECT_EQ(WriteJson("result", {{"a", {1, 2.5, "x"}}, {"n", std::nan("")}}, 0, 128).value(),
            R"({"a":[1,2.5,"x"],"n":null})");
  EXPECT_EQ(WriteJson("result", {{"$attachment", 0}}, 1, 128).value(), R"({"$attachment":0})");
}

TEST(Results, FaultsSayWhatAndWhere) {
  EXPECT_EQ(ResultFault({{"text", "\xff"}}), "result has a string that is not UTF-8: use Context::Attach for bytes");
  EXPECT_EQ(ResultFault({{"image", Json::binary({1, 2})}}), "result.image is binary: use Context::Attach");
  EXPECT_EQ(ResultFault({1, {{"$attachment", 2}}}, 1), "result[1] references attachment 2; the result has 1");
}

TEST(Results, DepthIsLimitedWithoutRecursion) {
  Json deep = 1;
  for (int i = 0; i < 1'000'000; ++i) {
    Json outer = Json::array();
    outer.push_back(std::move(deep));
    deep = std::move(outer);
  }
  EXPECT_EQ(ResultFault(deep), "result is more than 128 levels deep (max_json_depth)");
}

TEST(ValidUtf8, ReplacesWhatIsNotACharacter) {
  EXPECT_EQ(ValidUtf8("plain, d\u00e9j\u00e0, \u20ac, \U0001F600"), "plain, d\u00e9j\u00e0, \u20ac, \U0001F600");
  EXPECT_EQ(ValidUtf8("a\xff"
                      "b"),
            "a\uFFFD"
            "b");
  EXPECT_EQ(ValidUtf8("\xe2\x82"), "\uFFFD\uFFFD");            // cut off
  EXPECT_EQ(ValidUtf8("\xc0\x80"), "\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(ValidUtf8("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");  // half of a pair
}

}  // namespace
}  // namespace dirty::worker
