// Writes Prometheus' text format: families, each with its help, type and samples. Thread-compatible.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "server/observe/time_histogram.h"

namespace dirty {

class MetricsText {
 public:
  enum class Type { kCounter, kGauge, kHistogram };
  using Labels = std::initializer_list<std::pair<absl::string_view, absl::string_view>>;

  // The samples that follow are of this family. `name` and `help` are ours: they need no escapes.
  void Family(absl::string_view name, Type type, absl::string_view help);

  // Labels' values may be anything: they are escaped. Those of one family are to differ.
  void Sample(Labels labels, double value);
  void Sample(Labels labels, uint64_t value);
  void Sample(Labels labels, const TimeHistogram& histogram);

  // A family of one sample without labels.
  template <typename Value>
  void Single(absl::string_view name, Type type, absl::string_view help, Value value) {
    Family(name, type, help);
    Sample({}, value);
  }

  std::string Take() { return std::move(text_); }

 private:
  void Line(absl::string_view suffix, Labels labels, absl::string_view bound, absl::string_view value);

  std::string text_;
  std::string family_;
};

}  // namespace dirty
