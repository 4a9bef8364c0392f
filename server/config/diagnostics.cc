#include "server/config/diagnostics.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/config/values.h"

namespace dirty {

void Diagnostics::SetPlace(const std::string& path, Place place) {
  places_[path] = std::move(place);
  wrong_.erase(path);
}

Place Diagnostics::PlaceOf(absl::string_view path) const {
  while (!path.empty()) {
    if (auto it = places_.find(std::string(path)); it != places_.end()) return it->second;
    size_t end = path.find_last_of(".[");
    path = end == absl::string_view::npos ? absl::string_view() : path.substr(0, end);
  }
  return {};
}

void Diagnostics::Add(const std::string& path, absl::string_view message) {
  if (wrong_.insert(path).second) AddAt(PlaceOf(path), path, message);
}

void Diagnostics::AddAt(const Place& place, absl::string_view path, absl::string_view message) {
  // A flag names its key already.
  bool in_file = place.line != std::numeric_limits<int>::max();
  std::string line = place.text;
  if ((in_file || place.text.empty()) && !path.empty()) {
    absl::StrAppend(&line, line.empty() ? "" : ": ", Escaped(path));
  }
  absl::StrAppend(&line, line.empty() ? "" : ": ", message);
  errors_.push_back({place, std::move(line)});
}

absl::Status Diagnostics::ToStatus() const {
  if (errors_.empty()) return absl::OkStatus();
  std::vector<Error> sorted = errors_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Error& a, const Error& b) {
    return std::tie(a.place.line, a.place.column) < std::tie(b.place.line, b.place.column);
  });
  return absl::InvalidArgumentError(
      absl::StrJoin(sorted, "\n", [](std::string* out, const Error& error) { out->append(error.line); }));
}

}  // namespace dirty
