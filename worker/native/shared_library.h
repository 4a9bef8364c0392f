// Finds the class of a native app in a shared library. Thread-safe.
//
// A library stays loaded until the process ends: what it threw, and the stacks that it is in, stay readable.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "dirty/app.h"

namespace dirty::worker {

// Makes the app that `path` (`library.so:Class`) names; its Init has not run. What the constructor throws passes.
// `searched`: where a library without a slash was looked for, in vain. Errors say what is wrong and what to do: no such
// library, not a library, made for another dirty/app.h, no DIRTY_APP in it, no such class.
absl::StatusOr<std::unique_ptr<App>> MakeApp(absl::string_view path, absl::Span<const std::string> searched);

}  // namespace dirty::worker
