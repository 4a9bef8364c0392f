#include "tools/bench/options.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/strip.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "tools/dirtyctl/arguments.h"

namespace dirty::bench {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLargest = uint64_t{1} << 30;  // bytes of an argument

absl::Status Wrong(absl::string_view message) { return absl::InvalidArgumentError(message); }

absl::Status SetCount(const std::string& text, unsigned& field) {
  absl::StatusOr<unsigned> number = ctl::ParseNumber("it", text);
  if (number.ok() && *number == 0) return Wrong("it starts at 1");
  if (number.ok()) field = *number;
  return number.status();
}

absl::Status SetDuration(const std::string& text, absl::Duration& field) {
  absl::StatusOr<absl::Duration> duration = ctl::ParseDuration(text);
  if (duration.ok()) field = *duration;
  return duration.status();
}

// `kind`: what it must be, for people.
absl::Status SetJson(const std::string& text, Json::value_t type, absl::string_view kind, std::string& field) {
  const Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.type() != type) return Wrong(absl::StrCat(text, " is not ", kind));
  field = text;
  return absl::OkStatus();
}

absl::Status SetSize(const std::string& text, const std::function<void(uint64_t)>& set) {
  absl::StatusOr<uint64_t> size = ParseSize(text);
  if (size.ok()) set(*size);
  return size.status();
}

// A flag: its value is empty if it has none.
struct Flag {
  const char* name;
  const char* value;
  const char* help;
  std::function<absl::Status(const std::string&, Options&)> set;
};

std::function<absl::Status(const std::string&, Options&)> Text(std::string Options::*field) {
  return [field](const std::string& text, Options& options) { return options.*field = text, absl::OkStatus(); };
}

std::function<absl::Status(const std::string&, Options&)> Count(unsigned Options::*field) {
  return [field](const std::string& text, Options& options) { return SetCount(text, options.*field); };
}

std::function<absl::Status(const std::string&, Options&)> Time(absl::Duration Options::*field) {
  return [field](const std::string& text, Options& options) { return SetDuration(text, options.*field); };
}

std::function<absl::Status(const std::string&, Options&)> Set(bool Options::*field) {
  return [field](const std::string&, Options& options) { return options.*field = true, absl::OkStatus(); };
}

std::function<absl::Status(const std::string&, Options&)> Wish(Options::Wish wish) {
  return [wish](const std::string&, Options& options) { return options.wish = wish, absl::OkStatus(); };
}

const std::vector<Flag>& Flags() {
  static const auto& flags = *new std::vector<Flag>{
      {"socket", "PATH", "client socket [$DIRTY_SOCKET, else dirtyd's own defaults]", Text(&Options::socket)},
      {"admin-socket", "PATH",
       "for processor time and memory [$DIRTY_ADMIN_SOCKET, else admin.sock beside --socket, else dirtyd's own "
       "defaults]",
       Text(&Options::admin_socket)},
      {"self", "LANGUAGE", "start a dirtyd with an app that echoes, native or python, and end it afterwards",
       [](const std::string& text, Options& options) {
         if (text != "native" && text != "python") return Wrong(absl::StrCat(text, " is neither native nor python"));
         return options.self = text, absl::OkStatus();
       }},
      {"workers", "N", "with --self: how many workers [1]", Count(&Options::workers)},
      {"threads", "N", "with --self: how many calls each worker runs at once [1]", Count(&Options::threads)},
      {"with", "FLAG", "with --self: a further flag of dirtyd, such as --with=--queue_size=0; may be repeated",
       [](const std::string& text, Options& options) { return options.with.push_back(text), absl::OkStatus(); }},
      {"app", "APP", "the app to call; with --self it is known", Text(&Options::app)},
      {"action", "ACTION", "its action; with --self echo", Text(&Options::action)},
      {"args", "JSON", "its arguments, a JSON array [with --self 100 bytes of text, else none]",
       [](const std::string& text, Options& options) {
         return SetJson(text, Json::value_t::array, "a JSON array", options.args);
       }},
      {"kwargs", "JSON", "its named arguments, a JSON object",
       [](const std::string& text, Options& options) {
         return SetJson(text, Json::value_t::object, "a JSON object", options.kwargs);
       }},
      {"payload", "SIZE", "instead of --args: one argument, text of so many bytes, such as 100, 64KiB, 1MiB",
       [](const std::string& text, Options& options) {
         return SetSize(text,
                        [&](uint64_t size) { options.args = absl::StrCat("[\"", std::string(size, 'x'), "\"]"); });
       }},
      {"attachment", "SIZE", "instead of --args: one argument, a binary value of so many bytes",
       [](const std::string& text, Options& options) {
         return SetSize(text, [&](uint64_t size) {
           options.args = R"([{"$attachment":0}])";
           options.attachment = size;
         });
       }},
      {"stream", "", "the action streams its result: read all of it, and count its values", Set(&Options::stream)},
      {"timeout", "D", "how long a call may take [dirtyd's limits]",
       [](const std::string& text, Options& options) {
         absl::Status bad = SetDuration(text, options.timeout.emplace());
         if (bad.ok() && *options.timeout == absl::ZeroDuration()) return Wrong("it must be positive");
         return bad;
       }},
      {"callers", "N", "threads that call [1]", Count(&Options::callers)},
      {"in-flight", "N", "calls that each of them has in flight; above 1 it does not wait for them [1]",
       Count(&Options::in_flight)},
      {"connections", "N", "clients that share the callers, each with a connection of its own [1]",
       Count(&Options::connections)},
      {"transport", "T", "how calls travel: session, unary, or auto, sessions if dirtyd has them [auto]",
       [](const std::string& text, Options& options) {
         if (text != "auto" && text != "session" && text != "unary") {
           return Wrong(absl::StrCat(text, " is none of auto, session, unary"));
         }
         return options.transport = text, absl::OkStatus();
       }},
      {"duration", "D", "how long to measure [5s]", Time(&Options::duration)},
      {"calls", "N", "instead: how many calls",
       [](const std::string& text, Options& options) {
         unsigned calls = 0;
         absl::Status bad = SetCount(text, calls);
         options.calls = calls;
         return bad;
       }},
      {"warmup", "D", "how long to call before that [1s]", Time(&Options::warm_up)},
      {"idle-sessions", "N",
       "no calls: open so many sessions, each on a connection of its own, and tell what they cost dirtyd in memory",
       Count(&Options::idle_sessions)},
      {"json", "", "print JSON", Set(&Options::json)},
      {"help", "", "print this", Wish(Options::Wish::kHelp)},
      {"version", "", "print the version", Wish(Options::Wish::kVersion)},
  };
  return flags;
}

// What does not go together.
absl::Status Check(const std::set<std::string>& given, Options& options) {
  auto both = [&given](const char* a, const char* b) { return given.count(a) != 0 && given.count(b) != 0; };
  for (const auto& [a, b] : std::vector<std::pair<const char*, const char*>>{{"args", "payload"},
                                                                             {"args", "attachment"},
                                                                             {"payload", "attachment"},
                                                                             {"duration", "calls"},
                                                                             {"self", "socket"},
                                                                             {"self", "admin-socket"},
                                                                             {"self", "app"},
                                                                             {"stream", "in-flight"}}) {
    if (both(a, b)) return Wrong(absl::StrCat("--", a, " and --", b, " do not go together"));
  }
  if (options.self.empty()) {
    for (const char* flag : {"workers", "threads", "with"}) {
      if (given.count(flag) != 0) return Wrong(absl::StrCat("--", flag, " needs --self"));
    }
    if (options.idle_sessions == 0 && (options.app.empty() || options.action.empty())) {
      return Wrong("which --app and --action of your dirtyd? Or --self native for one of its own");
    }
  } else {
    options.app = EchoApp(options.self);
    if (options.action.empty()) options.action = options.stream ? "count" : "echo";
    if (options.args.empty()) {
      options.args = options.stream ? "[1000]" : absl::StrCat("[\"", std::string(100, 'x'), "\"]");
    }
  }
  if (options.connections > options.callers) return Wrong("more --connections than --callers");
  if (options.calls == 0 && options.duration <= absl::ZeroDuration()) return Wrong("--duration: 0 is too short");
  const uint64_t at_once = uint64_t{options.callers} * options.in_flight;
  if (options.calls != 0 && options.calls < at_once) {
    return Wrong(absl::StrCat("--calls ", options.calls, " is less than the ", at_once, " that are to be in flight"));
  }
  return absl::OkStatus();
}

absl::Status Usage(absl::string_view message) { return Wrong(absl::StrCat(message, "; see dirty-bench --help")); }

}  // namespace

std::string EchoApp(absl::string_view language) {
  return language == "python" ? "dirty_bench_app:Echo" : "libdirty_bench_app.so:Echo";
}

absl::StatusOr<uint64_t> ParseSize(const std::string& text) {
  absl::string_view digits = text;
  uint64_t unit = 1;
  if (absl::ConsumeSuffix(&digits, "KiB")) {
    unit = uint64_t{1} << 10;
  } else if (absl::ConsumeSuffix(&digits, "MiB")) {
    unit = uint64_t{1} << 20;
  } else if (absl::ConsumeSuffix(&digits, "GiB")) {
    unit = uint64_t{1} << 30;
  }
  uint64_t number = 0;
  if (!absl::SimpleAtoi(digits, &number) || absl::StartsWith(digits, "-")) {
    return Wrong(absl::StrCat(text, " is not a size; use 100, 64KiB, 1MiB"));
  }
  if (number > kLargest / unit) return Wrong(absl::StrCat(text, " is more than 1GiB"));
  return number * unit;
}

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& words) {
  Options options;
  std::set<std::string> given;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const std::size_t equals = word.find('=');
    const std::string written = word.substr(0, equals);
    const std::string name = absl::StrReplaceAll(written == "-h" ? "--help" : written, {{"_", "-"}});
    const Flag* flag = nullptr;
    for (const Flag& known : Flags()) {
      if (name == absl::StrCat("--", known.name)) flag = &known;
    }
    if (flag == nullptr)
      return Usage(absl::StrCat(absl::StartsWith(word, "-") ? "unknown flag " : "what is ", written));
    if (!given.insert(flag->name).second && name != "--with") return Usage(absl::StrCat(written, " is given twice"));
    std::string value;
    if (*flag->value == '\0') {
      if (equals != std::string::npos) return Usage(absl::StrCat(written, " has no value"));
    } else if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (i + 1 < words.size()) {
      value = words[++i];
    } else {
      return Usage(absl::StrCat(written, " needs a value: ", flag->value));
    }
    if (absl::Status bad = flag->set(value, options); !bad.ok()) {
      return Usage(absl::StrCat(written, ": ", bad.message()));
    }
  }
  if (options.wish != Options::Wish::kRun) return options;
  if (absl::Status bad = Check(given, options); !bad.ok()) return Usage(bad.message());
  return options;
}

std::string Help() {
  std::string help =
      "dirty-bench --app APP --action ACTION [FLAG ...]\n"
      "dirty-bench --self native|python [FLAG ...]\n\n"
      "Measures how fast dirtyd runs calls: of a dirtyd that runs, or of one of its own with an app that echoes.\n"
      "Latency is what a caller sees; percentiles are at most 0.1 % above the true value. Processor time is that of\n"
      "all threads of each process, while it measures; memory is the largest that each process has had.\n\n";
  for (const Flag& flag : Flags()) {
    absl::StrAppendFormat(&help, "  %-20s %s\n",
                          absl::StrCat("--", flag.name, *flag.value == '\0' ? "" : " ", flag.value), flag.help);
  }
  return help +
         "\nA duration D is a number of seconds, or 100ms, 5m, 1h.\n"
         "\nExit codes: 0 done, 1 a call failed, 2 wrong usage, 3 dirtyd cannot be reached.\n";
}

}  // namespace dirty::bench
