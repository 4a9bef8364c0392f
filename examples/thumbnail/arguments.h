// Binds a call's arguments to names, as a Python function would: by position or by name, each once.

#ifndef EXAMPLES_THUMBNAIL_ARGUMENTS_H_
#define EXAMPLES_THUMBNAIL_ARGUMENTS_H_

#include <initializer_list>
#include <string>
#include <string_view>

#include "dirty/app.h"

// The arguments of one call. Lives on the stack of Call(); thread-compatible. Every failure is a dirty::Error of
// type "TypeError" or "ValueError" that names the action and the argument.
class Arguments {
 public:
  // `names`: the parameters in their order. Throws if there are too many arguments, an unknown name, or one given
  // twice.
  Arguments(std::string_view action, std::initializer_list<const char*> names, const dirty::Json& args,
            const dirty::Json& kwargs);

  // The value of a parameter that must be given.
  const dirty::Json& Required(const char* name) const;

  // The value of a parameter, null if it was not given.
  const dirty::Json& Optional(const char* name) const;

  // A whole number from `min` to `max`; `fallback` if it was not given.
  int Integer(const char* name, int fallback, int min, int max) const;

  // Text; empty if it was not given.
  std::string Text(const char* name) const;

 private:
  std::string action_;
  dirty::Json values_ = dirty::Json::object();
};

#endif  // EXAMPLES_THUMBNAIL_ARGUMENTS_H_
