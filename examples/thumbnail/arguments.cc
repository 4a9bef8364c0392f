#include "arguments.h"

#include <algorithm>
#include <cstdint>

namespace {

const dirty::Json kNull;

[[noreturn]] void TypeError(const std::string& message) { throw dirty::Error("TypeError", message); }

}  // namespace

Arguments::Arguments(std::string_view action, std::initializer_list<const char*> names, const dirty::Json& args,
                     const dirty::Json& kwargs)
    : action_(action) {
  if (args.size() > names.size()) {
    TypeError(action_ + " takes at most " + std::to_string(names.size()) + " arguments, got " +
              std::to_string(args.size()));
  }
  const char* const* name = names.begin();
  for (const dirty::Json& arg : args) values_[*name++] = arg;
  for (const auto& [key, value] : kwargs.items()) {
    if (std::find(names.begin(), names.end(), key) == names.end()) {
      TypeError(action_ + " has no argument '" + key + "'");
    }
    if (!values_.emplace(key, value).second) TypeError(action_ + " got '" + key + "' twice");
  }
}

const dirty::Json& Arguments::Required(const char* name) const {
  const dirty::Json& value = Optional(name);
  if (value.is_null()) TypeError(action_ + " needs the argument '" + name + "'");
  return value;
}

const dirty::Json& Arguments::Optional(const char* name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? kNull : *found;
}

int Arguments::Integer(const char* name, int fallback, int min, int max) const {
  const dirty::Json& value = Optional(name);
  if (value.is_null()) return fallback;
  if (!value.is_number_integer()) {
    TypeError(action_ + ": '" + name + "' must be a whole number, not " + value.type_name());
  }
  // Numbers above INT64_MAX are stored unsigned: as a signed number they would wrap.
  const bool huge = value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX;
  if (huge || value.get<int64_t>() < min || value.get<int64_t>() > max) {
    throw dirty::Error("ValueError", action_ + ": '" + name + "' must be from " + std::to_string(min) + " to " +
                                         std::to_string(max) + ", not " + value.dump());
  }
  return value.get<int>();
}

std::string Arguments::Text(const char* name) const {
  const dirty::Json& value = Optional(name);
  if (value.is_null()) return "";
  if (!value.is_string()) TypeError(action_ + ": '" + name + "' must be a string, not " + value.type_name());
  return value.get<std::string>();
}
