// conformance_runner VECTORS SOCKET PREFIX TRANSPORT: the C++ client's runner. README.md says what it does.

#include <dirty/client.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace {

namespace client = dirty::client;
using client::Json;

constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string ToBase64(const std::string& bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t three = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      three = three << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    const std::size_t whole = std::min<std::size_t>(bytes.size() - i, 3) + 1;
    for (std::size_t k = 0; k < 4; ++k) text += k < whole ? kDigits[three >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

std::string FromBase64(const std::string& text) {
  static const std::string digits = kDigits;
  std::string bytes;
  std::uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(digits.find(c));
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>(bits >> held & 255);
  }
  return bytes;
}

void AppendUtf8(std::uint32_t code, std::string& text) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string FromUtf16(const Json& units) {
  std::string text;
  for (std::size_t i = 0; i < units.size(); ++i) {
    std::uint32_t code = units[i];
    const std::uint32_t next = i + 1 < units.size() ? units[i + 1].get<std::uint32_t>() : 0;
    if (code >> 10 == 0xD800 >> 10 && next >> 10 == 0xDC00 >> 10) {
      code = 0x10000 + ((code - 0xD800) << 10) + (next - 0xDC00);
      ++i;
    }
    AppendUtf8(code, text);
  }
  return text;
}

std::string Repeated(const std::string& text, std::size_t times) {
  std::string repeated;
  repeated.reserve(text.size() * times);
  for (std::size_t i = 0; i < times; ++i) repeated += text;
  return repeated;
}

// What a value of the vectors stands for; its bytes become attachments.
class Maker {
 public:
  Json Make(const Json& spec) {
    if (!spec.is_structured()) return spec;
    if (spec.is_array()) {
      Json list = Json::array();
      for (const Json& element : spec) list.push_back(Make(element));
      return list;
    }
    if (spec.size() == 1) {
      if (auto made = MakeSpecial(spec.begin().key(), *spec.begin())) return *std::move(made);
    }
    Json object = Json::object();
    for (const auto& [key, value] : spec.items()) object[key] = Make(value);
    return object;
  }

  std::vector<std::string> attachments;

 private:
  Json Bytes(std::string bytes) {
    attachments.push_back(std::move(bytes));
    return client::Attachment(attachments.size() - 1);
  }

  std::optional<Json> MakeSpecial(const std::string& key, const Json& value) {
    if (key == "$bytes") return Bytes(FromBase64(value));
    if (key == "$bytes_of")
      return Bytes(std::string(value[1].get<std::size_t>(), static_cast<char>(value[0].get<int>())));
    if (key == "$text_of") return Repeated(value[0], value[1]);
    if (key == "$int") return Json::parse(value.get<std::string>());
    if (key == "$utf16") return FromUtf16(value);
    if (key == "$double") {
      if (value == "NaN") return std::nan("");
      const double infinity = std::numeric_limits<double>::infinity();
      return value == "-Infinity" ? -infinity : infinity;
    }
    if (key == "$levels") {
      Json made = Make(value[1]);
      for (std::size_t i = value[0]; i > 0; --i) made = Json::array({std::move(made)});
      return made;
    }
    return std::nullopt;
  }
};

// What came out, as the driver reads it.
Json Shown(const Json& value, const std::vector<std::string>& attachments) {
  if (auto number = client::AttachmentNumber(value)) return {{"$bytes", ToBase64(attachments.at(*number))}};
  if (!value.is_structured()) return value;
  Json shown = value.is_array() ? Json::array() : Json::object();
  for (const auto& [key, member] : value.items()) {
    if (value.is_array()) {
      shown.push_back(Shown(member, attachments));
    } else {
      shown[key] = Shown(member, attachments);
    }
  }
  return shown;
}

Json Shown(const client::Error& error) {
  Json shown = {{"reason", client::ReasonName(error.reason)}, {"message", error.message}};
  const std::pair<const char*, const std::string&> texts[] = {
      {"app", error.app},
      {"action", error.action},
      {"call_id", error.call_id},
      {"exception_type", error.exception_type},
      {"traceback", error.traceback},
      {"signal", error.signal},
  };
  for (const auto& [name, text] : texts) {
    if (!text.empty()) shown[name] = text;
  }
  if (error.worker_id != 0) shown["worker_id"] = error.worker_id;
  const auto seconds = [](std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); };
  if (error.retry_delay) shown["retry_delay"] = seconds(*error.retry_delay);
  if (error.timeout) shown["timeout"] = seconds(*error.timeout);
  if (error.exit_code) shown["exit_code"] = *error.exit_code;
  if (!error.stderr_tail.empty()) shown["stderr_tail"] = error.stderr_tail;
  return shown;
}

Json Shown(const client::Result& result) {
  if (!result.ok()) return {{"error", Shown(result.error())}};
  return {{"result", Shown(result->result, result->attachments)}};
}

// Calls with arguments as JSON text take the raw entries of the client, and their results are parsed here.
client::Result Parsed(client::RawResult raw) {
  if (!raw.ok()) return std::move(raw).error();
  return client::Response{.result = Json::parse(raw->result), .attachments = std::move(raw->attachments)};
}

// A stream that was opened, with what was read of it.
struct Reading {
  client::Stream stream;
  Json chunks = Json::array();

  bool Read() {
    std::optional<client::Chunk> chunk = stream.Next();
    if (chunk) chunks.push_back(Shown(chunk->value, chunk->attachments));
    return chunk.has_value();
  }

  Json Finish() {
    while (Read()) {
    }
    Json shown = {{"chunks", std::move(chunks)}};
    if (stream.error()) shown["error"] = Shown(*stream.error());
    return shown;
  }
};

// The calls of one vector.
class Vector {
 public:
  Vector(const client::Client& client, std::string prefix) : client_(client), prefix_(std::move(prefix)) {}

  // The outcomes of `steps`.
  Json Run(const Json& steps) {
    Json outcomes = Json::array();
    for (const Json& step : steps) {
      const std::string what = step["do"];
      if (what == "call") {
        outcomes.push_back(step.value("stream", false) ? Reading{Open(step)}.Finish() : Shown(Execute(step)));
      } else if (what == "start") {
        Start(step);
      } else if (what == "cancel") {
        std::visit([](auto& call) { Cancel(call); }, started_.at(step["id"]));
      } else if (what == "finish") {
        outcomes.push_back(std::visit([](auto& call) { return Finish(call); }, started_.at(step["id"])));
      } else {
        throw std::runtime_error("no step " + what);
      }
    }
    return outcomes;
  }

 private:
  struct Request {
    std::string app, action;
    Json args, kwargs;
    client::CallOptions options;
  };

  Request RequestOf(const Json& step) const {
    Maker maker;
    Request request{.app = prefix_ + "-" + step["app"].get<std::string>(),
                    .action = step["action"],
                    .args = maker.Make(step.value("args", Json::array())),
                    .kwargs = maker.Make(step.value("kwargs", Json::object())),
                    .options = {}};
    request.options.attachments = std::move(maker.attachments);
    if (step.contains("timeout")) {
      request.options.timeout = std::chrono::nanoseconds(std::llround(step["timeout"].get<double>() * 1e9));
    }
    return request;
  }

  static bool Raw(const Json& step) { return step.contains("raw_args") || step.contains("raw_kwargs"); }

  client::Result Execute(const Json& step) const {
    Request call = RequestOf(step);
    if (Raw(step)) {
      return Parsed(client_.ExecuteRaw(call.app, call.action, step.value("raw_args", ""), step.value("raw_kwargs", ""),
                                       std::move(call.options)));
    }
    return client_.Execute(call.app, call.action, call.args, call.kwargs, std::move(call.options));
  }

  client::Stream Open(const Json& step) const {
    Request call = RequestOf(step);
    if (Raw(step)) {
      return client_.ExecuteStreamRaw(call.app, call.action, step.value("raw_args", ""), step.value("raw_kwargs", ""),
                                      std::move(call.options));
    }
    return client_.ExecuteStream(call.app, call.action, call.args, call.kwargs, std::move(call.options));
  }

  void Start(const Json& step) {
    const std::string id = step["id"];
    if (step.value("stream", false)) {
      Reading reading{Open(step)};
      for (int left = step.value("read", 0); left > 0 && reading.Read(); --left) {
      }
      started_.emplace(id, std::move(reading));
      return;
    }
    Request call = RequestOf(step);
    started_.emplace(id, client_.ExecuteAsync(call.app, call.action, call.args, call.kwargs, std::move(call.options)));
  }

  static void Cancel(const client::Call& call) { call.Cancel(); }
  static void Cancel(const Reading& reading) { reading.stream.Cancel(); }
  static Json Finish(client::Call& call) { return Shown(call.Get()); }
  static Json Finish(Reading& reading) { return reading.Finish(); }

  const client::Client& client_;
  const std::string prefix_;
  std::map<std::string, std::variant<client::Call, Reading>> started_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: conformance_runner VECTORS SOCKET PREFIX TRANSPORT\n";
    return 2;
  }
  using Transport = client::Options::Transport;
  const std::string transport = argv[4];
  const client::Client client(
      {.socket = argv[2], .transport = transport == "unary" ? Transport::kUnary : Transport::kAuto});
  for (const Json& vector : Json::parse(std::ifstream(argv[1]))) {
    Json line = {{"vector", vector["name"]}};
    try {
      line["outcomes"] = Vector(client, argv[3]).Run(vector["steps"]);
    } catch (const std::exception& error) {
      line["broken"] = error.what();
    }
    std::cout << line.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }
  return 0;
}
