// Linked into everything that UBSan checks with GCC: its reports go where its log_path says, which they do not by
// themselves. libubsan sets the path by a function that libasan has too and comes first with, and so sets ASan's; its
// own reports stay on standard error, where nobody looks for those of a worker.

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

namespace {

__attribute__((constructor)) void SetReportPath() {
  constexpr char kLogPath[] = "log_path=";
  const char* options = getenv("UBSAN_OPTIONS");
  const char* path = options == nullptr ? nullptr : strstr(options, kLogPath);
  void* ubsan = dlopen("libubsan.so.1", RTLD_LAZY | RTLD_NOLOAD);
  if (path == nullptr || ubsan == nullptr) return;
  path += strlen(kLogPath);
  char* copy = strndup(path, strcspn(path, ":"));
  reinterpret_cast<void (*)(const char*)>(dlsym(ubsan, "__sanitizer_set_report_path"))(copy);
  free(copy);
}

}  // namespace
