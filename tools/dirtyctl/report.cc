#include "tools/dirtyctl/report.h"

#include <absl/status/status.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/str_split.h>

#include <iostream>
#include <string>
#include <vector>

#include "client/cpp/errors.h"
#include "client/cpp/socket.h"
#include "tools/dirtyctl/text.h"

namespace dirty::ctl {
namespace {

void AppendLines(std::string& text, absl::string_view title, absl::string_view lines) {
  absl::StrAppend(&text, "\n  ", title, ":");
  for (absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    absl::StrAppend(&text, "\n    ", line);
  }
}

// Its lines, none of which steers the terminal: what an app raised may hold what a stranger sent.
std::string PrintableLines(absl::string_view text) {
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    lines.push_back(Printable(absl::StrReplaceAll(line, {{"\t", "    "}})));
  }
  return absl::StrJoin(lines, "\n");
}

}  // namespace

std::string Describe(const client::Error& error) {
  return Describe(absl::string_view(client::ReasonName(error.reason).data(), client::ReasonName(error.reason).size()),
                  error);
}

std::string Describe(absl::string_view title, const client::Error& error) {
  // Only the first line of a message belongs to the first line.
  const std::size_t end = error.message.find('\n');
  std::string text = absl::StrCat(title, ": ");
  if (!error.exception_type.empty() && !absl::StartsWith(error.message, error.exception_type)) {
    absl::StrAppend(&text, error.exception_type, ": ");
  }
  absl::StrAppend(&text, error.message.substr(0, end));
  if (end != std::string::npos) {
    for (absl::string_view line : absl::StrSplit(error.message.substr(end + 1), '\n', absl::SkipEmpty())) {
      absl::StrAppend(&text, "\n  ", line);
    }
  }
  const char* separator = "\n  ";
  auto add = [&](absl::string_view name, absl::string_view value) {
    if (value.empty()) return;
    absl::StrAppend(&text, separator, name, " ", Printable(value));
    separator = ", ";
  };
  add("app", error.app);
  add("action", error.action);
  add("call", error.call_id);
  if (error.worker_id != 0) add("worker", absl::StrCat(error.worker_id));
  if (error.exit_code) add("exit code", absl::StrCat(*error.exit_code));
  add("signal", error.signal);
  if (error.timeout) add("limit", client::internal::Seconds(*error.timeout));
  if (error.retry_delay) add("try again in", client::internal::Seconds(*error.retry_delay));
  if (!error.traceback.empty()) AppendLines(text, "traceback", error.traceback);
  if (!error.stderr_tail.empty()) {
    std::string lines;
    for (const std::string& line : error.stderr_tail) absl::StrAppend(&lines, line, "\n");
    AppendLines(text, "last lines of its standard error", lines);
  }
  return PrintableLines(text);
}

int Fail(const client::Error& error) {
  std::cerr << "dirtyctl: " << Describe(error) << "\n";
  return error.reason == client::Reason::kConnection ? kUnreachable : kFailed;
}

int Fail(const grpc::Status& status, const std::string& socket) {
  const std::string code = absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code()));
  if (!status.error_details().empty()) {
    // What an operator's RPC may answer is told by its code. The details have the text that the status is too short
    // for.
    const client::Error error = client::internal::FromStatus(status, socket);
    std::cerr << "dirtyctl: " << Describe(code, error) << "\n";
    return kFailed;
  }
  std::cerr << "dirtyctl: " << code << ": " << PrintableLines(status.error_message()) << " (" << socket << ")\n";
  const bool no_answer = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                         status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
  return no_answer ? kUnreachable : kFailed;
}

int FailUsage(absl::string_view message) {
  std::cerr << "dirtyctl: " << message << "\n";
  return kWrongUsage;
}

}  // namespace dirty::ctl
