#ifndef DIRTY_CLIENT_CPP_UTF8_H_
#define DIRTY_CLIENT_CPP_UTF8_H_

#include <absl/strings/string_view.h>

namespace dirty::client::internal {

// Whether this is well-formed UTF-8, as Unicode defines it and strings of Protocol Buffers have to be. Thread-safe.
bool IsUtf8(absl::string_view text);

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_UTF8_H_
