#include <absl/strings/str_cat.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "dirty/client.h"
#include "tools/dirtyctl/commands.h"
#include "tools/dirtyctl/report.h"

namespace dirty::ctl {
namespace {

using client::Json;

// Reads what the command line refers to. Standard input at most once.
class Inputs {
 public:
  // The JSON text that `word` is or refers to.
  absl::StatusOr<std::string> Text(const std::string& word) {
    if (word != "-" && word.rfind('@', 0) != 0) {
      if (Json::accept(word)) return word;
      return absl::InvalidArgumentError(absl::StrCat(
          word, " is not JSON; for a string: '", Json(word).dump(-1, ' ', false, Json::error_handler_t::replace), "'"));
    }
    const std::string path = word == "-" ? word : word.substr(1);
    absl::StatusOr<std::string> text = Bytes(path);
    if (text.ok() && !Json::accept(*text)) {
      return absl::InvalidArgumentError(absl::StrCat(path == "-" ? "standard input" : path, " is not JSON"));
    }
    return text;
  }

  absl::StatusOr<std::string> Bytes(const std::string& path) {
    if (path == "-") {
      if (input_read_) return absl::InvalidArgumentError("standard input can be read only once");
      input_read_ = true;
      return std::string(std::istreambuf_iterator<char>(std::cin), {});
    }
    std::ifstream file(path, std::ios::binary);
    std::ostringstream bytes;
    bytes << file.rdbuf();
    if (!file || (bytes.fail() && file.peek() != std::ifstream::traits_type::eof())) {
      return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
    }
    return std::move(bytes).str();
  }

 private:
  bool input_read_ = false;
};

// Saves the binary values that come back, or says that they came.
class Outputs {
 public:
  explicit Outputs(std::string path) : path_(std::move(path)) {}

  bool Take(const std::vector<std::string>& attachments) {
    for (const std::string& bytes : attachments) {
      const std::string path = count_ == 0 ? path_ : absl::StrCat(path_, ".", count_);
      if (path_.empty()) {
        std::cerr << "dirtyctl: attachment " << count_ << " of " << bytes.size()
                  << " bytes is not saved: use --output FILE\n";
      } else if (std::ofstream file(path, std::ios::binary);
                 !file.write(bytes.data(), static_cast<std::streamsize>(bytes.size())).flush()) {
        std::cerr << "dirtyctl: cannot write " << path << "\n";
        return false;
      }
      ++count_;
    }
    return true;
  }

  void End() const {
    if (count_ == 0 && !path_.empty()) {
      std::cerr << "dirtyctl: no attachment came back: " << path_ << " is not written\n";
    }
  }

 private:
  const std::string path_;
  int count_ = 0;
};

struct Prepared {
  std::string args = "[";
  std::string kwargs;
  client::CallOptions options;
};

absl::StatusOr<Prepared> Prepare(const Arguments& arguments) {
  Prepared call;
  Inputs inputs;
  for (std::size_t i = 2; i < arguments.operands.size(); ++i) {
    absl::StatusOr<std::string> text = inputs.Text(arguments.operands[i]);
    if (!text.ok()) return text.status();
    absl::StrAppend(&call.args, i == 2 ? "" : ",", *text);
  }
  call.args += "]";
  if (arguments.Has("kwargs")) {
    absl::StatusOr<std::string> text = inputs.Text(arguments.Get("kwargs"));
    if (!text.ok()) return text.status();
    if (!Json::parse(*text).is_object()) {
      return absl::InvalidArgumentError(absl::StrCat("--kwargs takes a JSON object, not ", arguments.Get("kwargs")));
    }
    call.kwargs = *std::move(text);
  }
  if (auto files = arguments.flags.find("attach"); files != arguments.flags.end()) {
    for (const std::string& path : files->second) {
      absl::StatusOr<std::string> bytes = inputs.Bytes(path);
      if (!bytes.ok()) return bytes.status();
      call.options.attachments.push_back(*std::move(bytes));
    }
  }
  if (arguments.Has("timeout")) {
    const absl::Duration timeout = arguments.GetDuration("timeout", absl::ZeroDuration());
    if (timeout == absl::ZeroDuration()) return absl::InvalidArgumentError("--timeout must be positive");
    call.options.timeout = absl::ToChronoNanoseconds(timeout);
  }
  call.options.request_id = arguments.Get("request-id");
  return call;
}

}  // namespace

int RunCall(const Arguments& arguments) {
  absl::StatusOr<Prepared> call = Prepare(arguments);
  if (!call.ok()) return FailUsage(call.status().message());
  const absl::Duration connect_timeout = arguments.GetDuration("connect-timeout", absl::Seconds(5));
  const client::Client client({.socket = arguments.GetSocket("socket", "DIRTY_SOCKET"),
                               .connect_timeout = absl::ToChronoNanoseconds(connect_timeout),
                               .max_message_size = 0});  // the arbiter knows its own limit
  const std::string& app = arguments.operands[0];
  const std::string& action = arguments.operands[1];
  Outputs outputs(arguments.Get("output"));
  if (!arguments.Has("stream")) {
    client::RawResult result =
        client.ExecuteRaw(app, action, std::move(call->args), std::move(call->kwargs), std::move(call->options));
    if (!result.ok()) return Fail(result.error());
    std::cout << result->result << std::endl;
    if (!outputs.Take(result->attachments)) return kFailed;
  } else {
    client::Stream stream =
        client.ExecuteStreamRaw(app, action, std::move(call->args), std::move(call->kwargs), std::move(call->options));
    while (std::optional<client::RawChunk> chunk = stream.NextRaw()) {
      std::cout << chunk->value << std::endl;
      if (!std::cout || !outputs.Take(chunk->attachments)) return kFailed;
    }
    if (stream.error()) return Fail(*stream.error());
  }
  outputs.End();
  return std::cout ? kDone : kFailed;
}

}  // namespace dirty::ctl
