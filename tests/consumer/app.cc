// A native app that builds against the installed header alone.

#include <dirty/app.h>

struct Echo : dirty::App {
  dirty::Json Call(std::string_view, const dirty::Json& args, const dirty::Json&, dirty::Context&) override {
    return args;
  }
};

DIRTY_APP(Echo)
