#ifndef DIRTY_CLIENT_CPP_POLLER_H_
#define DIRTY_CLIENT_CPP_POLLER_H_

namespace dirty::client::internal {

// In a child, while gRPC is not initialised: gives it an epoll instance of its own. gRPC 1.51 keeps its instance, and
// the eventfd in it, for good, so parent and child would take each other's events. Does nothing where there is none.
void RenewPoller();

}  // namespace dirty::client::internal

#endif  // DIRTY_CLIENT_CPP_POLLER_H_
