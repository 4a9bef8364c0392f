// What `ps` shows for this process. Thread-compatible.
//
// Linux shows the memory where the arguments and the environment were at the start. Prepare moves the environment out
// of it: call it first in main, before there are threads and before anything keeps what getenv returned.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace dirty::worker {

class ProcessTitle {
 public:
  // Does nothing but keep the old title where the system does not say where that memory is.
  static ProcessTitle Prepare();

  // Cut off where the memory ends.
  void Set(absl::string_view title);

 private:
  char* start_ = nullptr;
  size_t size_ = 0;
};

}  // namespace dirty::worker
