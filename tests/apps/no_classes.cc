// A library that includes the header and forgets DIRTY_APP.

#include <dirty/app.h>

class Forgotten : public dirty::App {
  dirty::Json Call(std::string_view, const dirty::Json&, const dirty::Json&, dirty::Context&) override { return 1; }
};
