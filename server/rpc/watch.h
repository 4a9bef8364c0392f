// Admin.Watch on the loop: what happens, to each reader as fast as it reads.
#pragma once

#include "dirty/v1/admin.grpc.pb.h"
#include "server/arbiter.h"
#include "server/loop/loop.h"

namespace dirty {

// Takes calls from now on, and answers them until Loop::Drain. All of it outlives that.
void StartWatch(v1::Admin::AsyncService& service, Arbiter& arbiter, Loop& loop);

}  // namespace dirty
