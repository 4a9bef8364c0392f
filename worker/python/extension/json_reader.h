// JSON text to Python objects, without a detour: what json.loads would give, with `{"$attachment": N}` as bytes.
// Holders of the GIL only.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "worker/python/extension/python_object.h"

namespace dirty::python {

// The value of `text`, which is UTF-8 and at most as deep as the caller allows (it is not looked at here; depth costs
// memory, not stack). Integers are exact, whatever their size. An object whose only key is `$attachment` becomes the
// bytes of that one of `attachments`. The error's message is for people: `field` ("args"), what is wrong, and where;
// `owner`: whose attachments they are ("call"). No Python exception is left set.
absl::StatusOr<Object> ReadJson(absl::string_view field, absl::string_view text,
                                absl::Span<const absl::string_view> attachments, absl::string_view owner);

}  // namespace dirty::python
