#define PY_SSIZE_T_CLEAN
#include "client/python/fork_guard.h"

#include <Python.h>
#include <grpc/grpc.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

namespace dirty::python {
namespace {

using std::chrono::steady_clock;

// How long a fork waits for calls in flight; new ones wait for the fork.
constexpr std::chrono::seconds kPatience{1};
// How long it waits for gRPC to clean up after the last call.
constexpr std::chrono::milliseconds kCleanUp{200};

// Of the process, and never destroyed: forks may come at its very end.
struct State {
  std::mutex mutex;                            // held while the process forks
  std::vector<const client::Client*> clients;  // guarded by mutex
  bool clean = false;                          // guarded by mutex
  std::atomic<bool> broken = false;
};
State& TheState() {
  static State& state = *new State;
  return state;
}

// Of the thread that forks: others may fork in order to exec at the same time.
thread_local bool suspended = false;

bool HoldsGil() { return Py_IsInitialized() != 0 && PyGILState_Check() != 0; }

// Whether the module subprocess, or multiprocessing on its behalf, forks in order to exec. Older Pythons do not use
// vfork, and none does for another user.
bool ExecFollows() {
  if (!HoldsGil()) return false;
  PyFrameObject* frame = PyEval_GetFrame();
  if (frame == nullptr) return false;
  PyCodeObject* code = PyFrame_GetCode(frame);
  bool follows = PyUnicode_CompareWithASCIIString(code->co_name, "_execute_child") == 0 ||
                 PyUnicode_CompareWithASCIIString(code->co_name, "spawnv_passfds") == 0;
  Py_DECREF(code);
  return follows;
}

// gRPC may clean up on a thread of its own, under the lock that this question takes. Who asks before the fork until the
// answer is yes knows that nobody holds that lock in the child; the child itself could wait for ever.
bool GrpcIsDown() {
  const steady_clock::time_point until = steady_clock::now() + kCleanUp;
  while (grpc_is_initialized() != 0) {
    if (steady_clock::now() >= until) return false;  // somebody else uses it
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

void BeforeFork() {
  State& state = TheState();
  suspended = !ExecFollows();
  if (!suspended) return;
  // Threads that come back from a call need the GIL to leave.
  PyThreadState* thread = HoldsGil() ? PyEval_SaveThread() : nullptr;
  state.mutex.lock();
  const steady_clock::time_point until = steady_clock::now() + kPatience;
  state.clean = true;
  for (const client::Client* client : state.clients) {
    state.clean &= client->Suspend(std::max<steady_clock::duration>(until - steady_clock::now(), {}));
  }
  state.clean &= GrpcIsDown();
  if (thread != nullptr) PyEval_RestoreThread(thread);
}

void AfterFork() {
  State& state = TheState();
  for (const client::Client* client : state.clients) client->Resume();
  state.mutex.unlock();
}

void AfterForkInParent() {
  if (suspended) AfterFork();
}

void AfterForkInChild() {
  State& state = TheState();
  if (!suspended || !state.clean) state.broken = true;
  if (suspended) AfterFork();
}

}  // namespace

ForkGuard::ForkGuard(const client::Client& client) : client_(client) {
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(&BeforeFork, &AfterForkInParent, &AfterForkInChild); });
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  state.clients.push_back(&client_);
}

ForkGuard::~ForkGuard() {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  std::erase(state.clients, &client_);
}

bool ForkGuard::Broken() { return TheState().broken; }

}  // namespace dirty::python
