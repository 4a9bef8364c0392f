// YAML text into a dirty.v1.Config, driven by its descriptor. (The way back is ToYaml, in config.h.)

#ifndef DIRTY_SERVER_CONFIG_YAML_H_
#define DIRTY_SERVER_CONFIG_YAML_H_

#include <map>
#include <string>

#include "dirty/v1/config.pb.h"
#include "server/config/diagnostics.h"

namespace dirty {

struct YamlSource {
  std::string name;    // as errors call the file
  std::string folder;  // absolute; relative paths start here
  const std::map<std::string, std::string>& variables;
};

// Reads what is right into `config`, places and errors into `diagnostics`. False if it is no YAML at all.
bool ReadYaml(const std::string& text, const YamlSource& source, v1::Config& config, Diagnostics& diagnostics);

}  // namespace dirty

#endif  // DIRTY_SERVER_CONFIG_YAML_H_
