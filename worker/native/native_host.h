// Runs apps that are classes in shared libraries (dirty/app.h). Owned by main.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "dirty/app.h"
#include "worker/runtime/app_host.h"

namespace dirty::worker {

class NativeHost final : public AppHost {
 public:
  std::string Describe() const override;
  void Configure(const v1::WorkerConfig&) override {}
  LoadResult Load(const v1::AppSpec& spec) override;
  void Execute(Call& call, v1::CallDone& done) override;
  void CloseAll() override;

 private:
  struct LoadedApp {
    std::string name;
    std::unique_ptr<App> app;
  };

  // Written by Load, before calls; then only read.
  std::vector<LoadedApp> loaded_;
  absl::flat_hash_map<std::string, App*> apps_;
};

}  // namespace dirty::worker
