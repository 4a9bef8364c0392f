#include "worker/native/shared_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace dirty::worker {
namespace {

// Why dlopen cannot take `file`; OK if it can try.
absl::Status CheckFile(const std::string& file, absl::Span<const std::string> searched) {
  if (file.find('/') == std::string::npos) {
    return absl::NotFoundError(
        absl::StrCat(file, ": no such library", searched.empty() ? "" : " in ", absl::StrJoin(searched, ", "),
                     "; add its directory to library_path, or write the app's path with a slash"));
  }
  if (access(file.c_str(), R_OK) == 0) return absl::OkStatus();
  char directory[4096] = "?";
  bool relative = file[0] != '/' && getcwd(directory, sizeof(directory)) != nullptr;
  return absl::NotFoundError(
      absl::StrCat(file, ": ", strerror(errno), relative ? absl::StrCat(" (in ", directory, ")") : ""));
}

template <typename Function>
Function* Find(void* library, const char* symbol) {
  return reinterpret_cast<Function*>(dlsym(library, symbol));
}

}  // namespace

absl::StatusOr<std::unique_ptr<App>> MakeApp(absl::string_view path, absl::Span<const std::string> searched) {
  size_t colon = path.rfind(':');
  if (colon == absl::string_view::npos || colon == 0 || colon + 1 == path.size()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": a native app is named library.so:Class"));
  }
  std::string file(path.substr(0, colon));
  absl::string_view name = path.substr(colon + 1);
  if (absl::Status status = CheckFile(file, searched); !status.ok()) return status;

  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return absl::FailedPreconditionError(dlerror());
  auto* abi = Find<decltype(dirty_app_abi)>(library, "dirty_app_abi");
  auto* list = Find<decltype(dirty_app_classes)>(library, "dirty_app_classes");
  if (abi == nullptr || list == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(file, " has no app: include <dirty/app.h> and write DIRTY_APP(", name, ") below the class"));
  }
  if (absl::string_view theirs = abi(); theirs != DIRTY_APP_ABI) {
    return absl::FailedPreconditionError(absl::StrCat(file, " was built for another dirty-worker: it has [", theirs,
                                                      "], this one needs [", DIRTY_APP_ABI, "]; build it again"));
  }
  size_t count = 0;
  const internal::AppClass* classes = list(&count);
  std::vector<absl::string_view> names;
  for (size_t i = 0; i < count; ++i) {
    if (classes[i].name == name) return std::unique_ptr<App>(classes[i].make());
    names.push_back(classes[i].name);
  }
  return absl::NotFoundError(names.empty()
                                 ? absl::StrCat(file, " has no app: write DIRTY_APP(", name, ") below the class")
                                 : absl::StrCat(file, " has no app ", name, "; it has ", absl::StrJoin(names, ", ")));
}

}  // namespace dirty::worker
