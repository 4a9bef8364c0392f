// The rules that a configuration must keep beyond the spelling of its values.

#ifndef DIRTY_SERVER_CONFIG_VALIDATE_H_
#define DIRTY_SERVER_CONFIG_VALIDATE_H_

#include <string>

#include "dirty/v1/config.pb.h"
#include "server/config/config.h"
#include "server/config/diagnostics.h"

namespace dirty {

// Checks `config`, which has its defaults. Says nothing of values that `diagnostics` has as wrong already.
void Validate(const v1::Config& config, const ConfigContext& context, Diagnostics& diagnostics);

// What calls name `app` by: its alias, else what it loads, of a library with a path only the file's name.
std::string AppName(const v1::App& app);

}  // namespace dirty

#endif  // DIRTY_SERVER_CONFIG_VALIDATE_H_
