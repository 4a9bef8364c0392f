// How other threads reach the loop.
#pragma once

#include <functional>

namespace dirty {

class Poster {
 public:
  virtual ~Poster() = default;
  // Thread-safe: runs `work` on the loop, in the order of posting.
  virtual void Post(std::function<void()> work) = 0;
};

}  // namespace dirty
