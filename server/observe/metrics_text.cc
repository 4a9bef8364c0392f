#include "server/observe/metrics_text.h"

#include <array>
#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/observe/log.h"

namespace dirty {
namespace {

absl::string_view NameOf(MetricsText::Type type) {
  switch (type) {
    case MetricsText::Type::kCounter:
      return "counter";
    case MetricsText::Type::kGauge:
      return "gauge";
    case MetricsText::Type::kHistogram:
      return "histogram";
  }
  return "untyped";
}

// The shortest text that reads back as the same number.
std::string Number(double value) {
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 512> text;  // enough for every double
  const std::to_chars_result end =
      std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  return std::string(text.data(), end.ptr);
}

void AppendEscaped(std::string& out, absl::string_view value) {
  for (const char c : value) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
}

}  // namespace

void MetricsText::Family(absl::string_view name, Type type, absl::string_view help) {
  family_ = std::string(name);
  absl::StrAppend(&text_, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", NameOf(type), "\n");
}

void MetricsText::Sample(Labels labels, double value) { Line("", labels, "", Number(value)); }

void MetricsText::Sample(Labels labels, uint64_t value) { Line("", labels, "", absl::StrCat(value)); }

void MetricsText::Sample(Labels labels, const TimeHistogram& histogram) {
  uint64_t sum = 0;
  for (size_t i = 0; i < histogram.counts().size(); ++i) {
    sum += histogram.counts()[i];
    const bool last = i == TimeHistogram::kBounds.size();
    const std::string bound = last ? "+Inf" : Number(static_cast<double>(TimeHistogram::kBounds[i]) / 1e9);
    Line("_bucket", labels, bound, absl::StrCat(sum));
  }
  Line("_sum", labels, "", Number(histogram.seconds()));
  Line("_count", labels, "", absl::StrCat(sum));
}

void MetricsText::Line(absl::string_view suffix, Labels labels, absl::string_view bound, absl::string_view value) {
  absl::StrAppend(&text_, family_, suffix);
  const char* before = "{";
  for (const auto& [name, label] : labels) {
    absl::StrAppend(&text_, before, name, "=\"");
    AppendEscaped(text_, Printable(label));
    text_ += '"';
    before = ",";
  }
  if (!bound.empty()) {
    absl::StrAppend(&text_, before, "le=\"", bound, "\"");
    before = ",";
  }
  absl::StrAppend(&text_, *before == ',' ? "}" : "", " ", value, "\n");
}

}  // namespace dirty
