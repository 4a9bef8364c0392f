#ifndef DIRTY_TOOLS_DIRTYCTL_COMMANDS_H_
#define DIRTY_TOOLS_DIRTYCTL_COMMANDS_H_

// One function a command: runs it, prints, and returns the exit code.

#include "client/cpp/connection.h"
#include "tools/dirtyctl/arguments.h"

namespace dirty::ctl {

int RunCall(const Arguments& arguments);    // on the client socket
int RunHealth(const Arguments& arguments);  // on the client socket
int RunTop(const Arguments& arguments);     // on the admin socket
int RunAdmin(const Arguments& arguments);   // every other command, on the admin socket

// Connects to the socket of this kind that its flag names, else to the usual ones, within --connect-timeout.
client::Outcome<std::shared_ptr<client::internal::Connection>> Connect(const Arguments& arguments,
                                                                       client::internal::SocketKind kind);

}  // namespace dirty::ctl

#endif  // DIRTY_TOOLS_DIRTYCTL_COMMANDS_H_
