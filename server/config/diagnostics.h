// Collects every error of a configuration at its place. Made per LoadConfig; thread-compatible.

#ifndef DIRTY_SERVER_CONFIG_DIAGNOSTICS_H_
#define DIRTY_SERVER_CONFIG_DIAGNOSTICS_H_

#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace dirty {

// Where a value was written: "dirty.yaml:12:3", "--timeout", "argument \"m:C\"".
struct Place {
  std::string text;
  int line = std::numeric_limits<int>::max();  // of the file; flags come after it
  int column = 0;
};

class Diagnostics {
 public:
  // Remembers where the value at `path` ("apps[1].timeout") was written; a later place wins, and
  // what was wrong with the earlier value no longer matters.
  void SetPlace(const std::string& path, Place place);

  // Where `path`, or the nearest that holds it, was written; empty text: nowhere, it is a default.
  Place PlaceOf(absl::string_view path) const;

  // An error of the value at `path`. A second one at the same path is dropped: it follows from the first.
  void Add(const std::string& path, absl::string_view message);
  void AddAt(const Place& place, absl::string_view path, absl::string_view message);

  // Nothing is known of the value at `path`: it may have been meant by something that is wrong elsewhere.
  void Doubt(const std::string& path) { wrong_.insert(path); }

  // Whether the value at `path` is known to be wrong, so that nothing can be concluded from it.
  bool Has(const std::string& path) const { return wrong_.count(path) != 0; }

  // OK, or InvalidArgument with one line per error, in the order of the file.
  absl::Status ToStatus() const;

 private:
  struct Error {
    Place place;
    std::string line;
  };

  std::map<std::string, Place, std::less<>> places_;
  std::set<std::string> wrong_;
  std::vector<Error> errors_;
};

}  // namespace dirty

#endif  // DIRTY_SERVER_CONFIG_DIAGNOSTICS_H_
