// Fuzzes the JSON of a call, from its request through a native worker and back as its result. The input's first line
// holds up to three numbers: attachments, max_json_depth, and arrays to put around what follows; then args, a line `--`
// and kwargs. A recogniser of RFC 8259 of our own and nlohmann::json are the oracles: a worker takes exactly what they
// take, says what is wrong with the rest, and gives the same document back.

#include "worker/native/arguments.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/observe/utf8.h"
#include "tests/fuzz/fuzz.h"
#include "worker/runtime/app_host.h"
#include "worker/runtime/failure.h"
#include "worker/runtime/json_text.h"

namespace dirty::worker {
namespace {

// Whether a text is JSON as RFC 8259 has it, and how deep. Without recursion: `open_` is what is to be closed.
class Recogniser {
 public:
  explicit Recogniser(absl::string_view text) : rest_(text) { json_ = Document(); }
  bool json() const { return json_; }
  size_t depth() const { return depth_; }

 private:
  bool Document() {
    for (;;) {
      Space();
      if (Open('[') || Open('{')) {
        Space();
        if (!Take(Closing())) {
          if (open_.back() == '{' && !Key()) return false;
          continue;
        }
        open_.pop_back();
      } else if (!Scalar()) {
        return false;
      }
      // A value has ended: what may follow it.
      for (;;) {
        Space();
        if (open_.empty()) return rest_.empty();
        if (Take(Closing())) {
          open_.pop_back();
          continue;
        }
        if (!Take(',')) return false;
        if (open_.back() == '{' && !Key()) return false;
        break;
      }
    }
  }
  bool Key() {
    Space();
    if (!String()) return false;
    Space();
    return Take(':');
  }
  bool Scalar() {
    for (absl::string_view word : {"true", "false", "null"}) {
      if (absl::StartsWith(rest_, word)) {
        rest_.remove_prefix(word.size());
        return true;
      }
    }
    return String() || Number();
  }
  bool Number() {
    Take('-');
    if (!Take('0') && !Digits()) return false;
    if (Take('.') && !Digits()) return false;
    if (Take('e') || Take('E')) {
      if (!Take('+')) Take('-');
      return Digits();
    }
    return true;
  }
  bool Digits() {
    size_t count = 0;
    for (; !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; rest_.remove_prefix(1)) ++count;
    return count > 0;
  }
  bool String() {
    if (!Take('"')) return false;
    while (!Take('"')) {
      if (Take('\\')) {
        if (Take('u')) {
          if (!CodeUnit()) return false;
        } else if (rest_.empty() || !absl::StrContains("\"\\/bfnrt", rest_.substr(0, 1))) {
          return false;
        } else {
          rest_.remove_prefix(1);
        }
        continue;
      }
      const size_t size = rest_.empty() ? 0 : Utf8Length(rest_);
      if (size == 0 || static_cast<uint8_t>(rest_[0]) < ' ') return false;
      rest_.remove_prefix(size);
    }
    return true;
  }
  // After \u. The first half of a pair must be followed by the second, which stands nowhere else: such a text has no
  // UTF-8.
  bool CodeUnit() {
    uint32_t unit, low;
    if (!Hex(unit) || (unit >= 0xdc00 && unit <= 0xdfff)) return false;
    if (unit < 0xd800 || unit > 0xdbff) return true;
    return Take('\\') && Take('u') && Hex(low) && low >= 0xdc00 && low <= 0xdfff;
  }
  bool Hex(uint32_t& unit) {
    unit = 0;
    for (int i = 0; i < 4; ++i, rest_.remove_prefix(1)) {
      if (rest_.empty() || !absl::ascii_isxdigit(static_cast<unsigned char>(rest_[0]))) return false;
      uint32_t digit;
      if (!absl::SimpleHexAtoi(rest_.substr(0, 1), &digit)) return false;
      unit = unit * 16 + digit;
    }
    return true;
  }
  bool Take(char c) {
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool Open(char c) {
    if (!Take(c)) return false;
    open_.push_back(c);
    depth_ = std::max(depth_, open_.size());
    return true;
  }
  char Closing() const { return open_.back() == '[' ? ']' : '}'; }
  void Space() {
    while (!rest_.empty() && absl::StrContains(" \t\r\n", rest_.substr(0, 1))) rest_.remove_prefix(1);
  }

  absl::string_view rest_;
  std::string open_;
  size_t depth_ = 0;
  bool json_ = false;
};

// Whether a document has a reference to an attachment that is not there. As deep as a worker takes it: recursion is
// fine.
bool HasBadReference(const Json& value, int attachments) {
  if (!value.is_structured()) return false;
  if (value.is_object() && value.size() == 1 && value.contains("$attachment")) {
    const Json& number = value.front();
    // -0 is one, too.
    return !number.is_number_integer() || (!number.is_number_unsigned() && number.get<int64_t>() < 0) ||
           number.get<uint64_t>() >= static_cast<uint64_t>(attachments);
  }
  return std::any_of(value.begin(), value.end(),
                     [&](const Json& member) { return HasBadReference(member, attachments); });
}

// What a request's field should come to, by the oracles.
struct Expected {
  bool taken = false;
  Json value;
};

Expected Expect(const std::string& text, Json otherwise, uint32_t max_depth, int attachments) {
  if (text.empty()) return {true, std::move(otherwise)};
  const Recogniser recogniser(text);
  if (!recogniser.json()) return {};
  FUZZ_EXPECT(JsonDepth(text) == recogniser.depth(), JsonDepth(text), " levels instead of ", recogniser.depth());
  if (recogniser.depth() > DepthLimit(max_depth)) return {};
  Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  // Of what is JSON, nlohmann refuses numbers that no double can hold; a worker says so.
  if (value.is_discarded() || value.type() != otherwise.type()) return {};
  if (HasBadReference(value, attachments)) return {};
  return {true, std::move(value)};
}

// An app that gives its arguments back.
class EchoHost final : public AppHost {
 public:
  std::string Describe() const override { return "fuzz"; }
  void Configure(const v1::WorkerConfig&) override {}
  LoadResult Load(const v1::AppSpec&) override { return {}; }
  void CloseAll() override {}

  void Execute(Call& call, v1::CallDone& done) override {
    absl::StatusOr<Arguments> arguments = ParseArguments(call.request());
    if (!arguments.ok()) {
      *done.mutable_error() = InvalidRequestError(arguments.status().message());
      return;
    }
    taken = true;
    got = *std::move(arguments);
    const int attachments = call.request().attachments_size();
    const Json result = {{"args", got.args}, {"kwargs", got.kwargs}};
    absl::StatusOr<std::string> text = WriteJson("result", result, attachments, kDeepestJson + 1);
    FUZZ_EXPECT(text.ok(), text.status().ToString());
    const Recogniser written(*text);
    FUZZ_EXPECT(written.json(), *text);
    FUZZ_EXPECT(Json::parse(*text) == result, *text);
    FUZZ_EXPECT(WriteJson("result", Json::parse(*text), attachments, kDeepestJson + 1).value() == *text, *text);
    // A level less than it has is refused.
    if (written.depth() > 1) {
      FUZZ_EXPECT(!WriteJson("result", result, attachments, static_cast<uint32_t>(written.depth() - 1)).ok(), *text);
    }
    done.mutable_response()->set_result(*text);
  }

  bool taken = false;
  Arguments got;
};

class OneFrame final : public FrameSink {
 public:
  void Send(const v1::WorkerFrame& sent) override {
    ++frames;
    frame = sent;
  }
  int frames = 0;
  v1::WorkerFrame frame;
};

// A result that is deeper than any limit, without a text.
void CheckDeepResult(uint32_t nested) {
  Json deep = 1;
  for (uint32_t i = 0; i < nested; ++i) {
    Json outer = Json::array();
    outer.push_back(std::move(deep));
    deep = std::move(outer);
  }
  FUZZ_EXPECT(WriteJson("result", deep, 0, kDeepestJson).ok() == (nested <= kDeepestJson), nested);
}

void Run(absl::string_view header, const std::string& args, const std::string& kwargs) {
  uint32_t numbers[3] = {0, 0, 0};
  const std::vector<absl::string_view> words = absl::StrSplit(header, ' ', absl::SkipEmpty());
  for (size_t i = 0; i < std::min<size_t>(words.size(), 3); ++i) (void)absl::SimpleAtoi(words[i], &numbers[i]);
  const int attachments = static_cast<int>(numbers[0] % 8);
  const uint32_t max_depth = numbers[1];
  const uint32_t nested = numbers[2] % 20'000;

  auto start = std::make_unique<v1::StartCall>();
  start->set_call(7);
  v1::ExecuteRequest& request = *start->mutable_request();
  request.set_args(absl::StrCat(std::string(nested, '['), args, std::string(nested, ']')));
  request.set_kwargs(kwargs);
  for (int i = 0; i < attachments; ++i) request.add_attachments("bytes");
  const Expected expected_args = Expect(request.args(), Json::array(), max_depth, attachments);
  const Expected expected_kwargs = Expect(request.kwargs(), Json::object(), max_depth, attachments);
  const bool expected = expected_args.taken && expected_kwargs.taken;

  EchoHost host;
  OneFrame sink;
  Call(std::move(start), {.max_message_size = 0, .max_json_depth = max_depth, .worker_id = 1}, sink).Run(host);
  FUZZ_EXPECT(sink.frames == 1 && sink.frame.done().call() == 7, sink.frames, " frames");
  const v1::CallDone& done = sink.frame.done();
  FUZZ_EXPECT(host.taken == expected, expected ? "refused: " : "taken, and is no JSON for us: ",
              done.has_error() ? done.error().message() : args);
  if (expected) {
    FUZZ_EXPECT(done.has_response(), done.error().message());
    FUZZ_EXPECT(host.got.args == expected_args.value && host.got.kwargs == expected_kwargs.value,
                done.response().result());
  } else {
    FUZZ_EXPECT(done.error().reason() == v1::REASON_INVALID_REQUEST, done.error().message());
    FUZZ_EXPECT(IsUtf8(done.error().message()) && !done.error().message().empty(), "a message that is no text");
  }
  if (nested > 0) CheckDeepResult(nested);
}

}  // namespace
}  // namespace dirty::worker

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  absl::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t line = std::min(text.find('\n'), text.size());
  const absl::string_view header = text.substr(0, line);
  text.remove_prefix(std::min(line + 1, text.size()));
  constexpr absl::string_view kApart = "\n--\n";
  const size_t apart = text.find(kApart);
  const absl::string_view args = text.substr(0, apart);
  const absl::string_view kwargs = apart == text.npos ? "" : text.substr(apart + kApart.size());
  dirty::worker::Run(header, std::string(args), std::string(kwargs));
  return 0;
}
