#include "tools/dirtyctl/text.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>

namespace dirty::ctl {
namespace {

constexpr std::size_t kNarrowest = 12;

bool BeginsCharacter(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

}  // namespace

std::string Printable(absl::string_view text) {
  std::string printable;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte < 0x20 || byte == 0x7f) {
      printable += '?';
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {  // U+0080 to U+009F: as ESC and a letter
      printable += '?';
      ++i;
    } else {
      printable += text[i];
    }
  }
  return printable;
}

std::size_t Columns(absl::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), BeginsCharacter));
}

std::string Cut(absl::string_view text, std::size_t columns) {
  std::size_t at = 0;
  for (std::size_t seen = 0; at < text.size(); ++at) {
    if (BeginsCharacter(text[at]) && seen++ == columns) break;
  }
  return std::string(text.substr(0, at));
}

std::string CutBeginning(absl::string_view text, std::size_t columns) {
  if (Columns(text) <= columns) return std::string(text);
  std::size_t drop = Columns(text) - columns + 1;
  std::size_t at = 0;
  while (drop-- > 0) {
    ++at;
    while (at < text.size() && !BeginsCharacter(text[at])) ++at;
  }
  return absl::StrCat("~", text.substr(at));
}

std::vector<std::string> TableLines(const std::vector<Row>& rows, std::size_t width) {
  std::vector<Row> cells = rows;
  std::vector<std::size_t> widths(rows[0].size());
  for (Row& row : cells) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = Printable(row[i]);
      widths[i] = std::max(widths[i], Columns(row[i]));
    }
  }
  std::size_t needed = 2 * (widths.size() - 1);
  for (const std::size_t each : widths) needed += each;
  if (width != 0 && needed > width && widths[0] > kNarrowest) {
    widths[0] -= std::min(needed - width, widths[0] - kNarrowest);
    for (Row& row : cells) row[0] = CutBeginning(row[0], widths[0]);
  }
  std::vector<std::string> lines;
  for (const Row& row : cells) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      absl::StrAppend(&line, row[i], std::string(widths[i] - Columns(row[i]) + 2, ' '));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::string Table(const std::vector<Row>& rows) { return absl::StrCat(absl::StrJoin(TableLines(rows), "\n"), "\n"); }

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

std::string Age(absl::Duration age) {
  if (age < absl::Seconds(1)) return absl::StrCat(std::max<int64_t>(absl::ToInt64Milliseconds(age), 0), "ms");
  if (age < absl::Minutes(1)) return absl::StrFormat("%.1fs", absl::ToDoubleSeconds(age));
  if (age < absl::Hours(24)) return absl::FormatDuration(absl::Trunc(age, absl::Seconds(1)));
  return absl::StrCat(age / absl::Hours(24), "d", (age % absl::Hours(24)) / absl::Hours(1), "h");
}

std::string Size(uint64_t bytes) {
  if (bytes == 0) return "-";
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  return mebibytes < 1024 ? absl::StrFormat("%.0fM", mebibytes) : absl::StrFormat("%.1fG", mebibytes / 1024);
}

std::string Under(absl::string_view title, absl::string_view text) {
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  if (lines.empty()) return absl::StrCat(title, "\n");
  if (lines.size() == 1) return absl::StrCat(title, ": ", Printable(lines[0]), "\n");
  std::string all = absl::StrCat(title, ":\n");
  for (const std::string& line : lines) absl::StrAppend(&all, "    ", Printable(line), "\n");
  return all;
}

uint64_t Ended(const v1::AppStatus& app) { return app.counters().received() - app.queued() - app.running(); }

uint64_t Failed(const v1::AppStatus& app) { return Ended(app) - app.counters().ok(); }

std::string ReadyWorkers(const v1::StatusResponse& status) {
  std::vector<std::string> pools;
  for (const v1::PoolStatus& pool : status.pools()) {
    const auto ready = std::count_if(status.workers().begin(), status.workers().end(), [&pool](const auto& worker) {
      return worker.pool() == pool.name() && worker.state() == v1::WorkerStatus::READY;
    });
    pools.push_back(absl::StrCat(pool.name(), " ", ready, "/", pool.desired_workers()));
  }
  return absl::StrJoin(pools, ", ");
}

std::string Heading(const v1::StatusResponse& status, absl::Time now) {
  return absl::StrCat("dirtyd ", status.version(), "  pid ", status.pid(), "  ",
                      v1::StatusResponse::State_Name(status.state()), "  up ", Age(now - ToTime(status.start_time())),
                      "  generation ", status.generation());
}

std::string ToJson(const google::protobuf::Message& message, bool lines) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  options.add_whitespace = lines;
  std::string text;
  (void)google::protobuf::util::MessageToJsonString(message, &text, options);
  if (!lines) text += "\n";
  return text;
}

}  // namespace dirty::ctl
