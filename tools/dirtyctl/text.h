#ifndef DIRTY_TOOLS_DIRTYCTL_TEXT_H_
#define DIRTY_TOOLS_DIRTYCTL_TEXT_H_

// What dirtyctl's views are made of. Stateless.

#include <absl/strings/string_view.h>
#include <absl/time/time.h>
#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "dirty/v1/admin.pb.h"

namespace dirty::ctl {

// `text` without what would steer a terminal: control characters become `?`. Names of actions come from anybody.
std::string Printable(absl::string_view text);

// How many columns a terminal needs for it, as long as no character is a wide one.
std::size_t Columns(absl::string_view text);

// The first `columns` of it.
std::string Cut(absl::string_view text, std::size_t columns);

// The last `columns` of a longer one, behind a mark.
std::string CutBeginning(absl::string_view text, std::size_t columns);

using Row = std::vector<std::string>;

// Lines with columns as wide as their widest cell; the first row is the heading. If they need more than `width`
// columns, the first cells lose their beginnings, to 12 columns at least. 0: no limit.
std::vector<std::string> TableLines(const std::vector<Row>& rows, std::size_t width = 0);

// The same as one text.
std::string Table(const std::vector<Row>& rows);

absl::Time ToTime(const google::protobuf::Timestamp& time);
absl::Duration ToDuration(const google::protobuf::Duration& duration);

// Precise where it is short: `12ms`, `4.1s`, `3m20s`, `2d4h`.
std::string Age(absl::Duration age);

// `100M`; `-` if it is not known.
std::string Size(uint64_t bytes);

// `text` after `title`: on the same line if it is one, else below it, indented.
std::string Under(absl::string_view title, absl::string_view text);

// Calls of the app that have ended, and those of them that failed.
uint64_t Ended(const v1::AppStatus& app);
uint64_t Failed(const v1::AppStatus& app);

// `default 1/2, gpu 1/1`: workers that are ready, of how many there should be.
std::string ReadyWorkers(const v1::StatusResponse& status);

// `dirtyd 0.1.0  pid 12  RUNNING  up 3m20s  generation 3`.
std::string Heading(const v1::StatusResponse& status, absl::Time now);

// proto3 JSON with the names of the .proto files and with defaults: over many lines, or on one. Ends with a newline.
std::string ToJson(const google::protobuf::Message& message, bool lines);

}  // namespace dirty::ctl

#endif  // DIRTY_TOOLS_DIRTYCTL_TEXT_H_
