// Python objects to JSON text, with the bytes among them beside it. Holders of the GIL only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/python/extension/python_object.h"

namespace dirty::python {

struct JsonDocument {
  std::string text;
  std::vector<std::string> attachments;  // what `{"$attachment": N}` in the text references
};

// The text of `value`. What passes, and as what, is the table of docs/python.md: what json.dumps takes, bytes-like
// objects anywhere, sets, dataclasses and NumPy's scalars. The error's message is for people; it starts with the path
// of the offending value below `root`: `result.items[3].when: datetime ...`. At most `max_depth` levels, also of stack.
// No Python exception is left set. `attachments`: those that are there already, of a document before this one.
absl::StatusOr<JsonDocument> WriteJson(absl::string_view root, PyObject* value, uint32_t max_depth,
                                       std::vector<std::string> attachments = {});

}  // namespace dirty::python
