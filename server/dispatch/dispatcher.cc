#include "server/dispatch/dispatcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/dispatch/dispatcher_state.h"
#include "server/dispatch/proto_time.h"
#include "server/dispatch/text.h"
#include "server/dispatch/trace_context.h"
#include "server/loop/check.h"

namespace dirty {
namespace {

constexpr size_t kMaxRequestId = 128;
constexpr uint32_t kDefaultCredits = 16;
// A caller whose call waited longer is told when the rest of its time was too short.
constexpr absl::Duration kNoticed = absl::Milliseconds(1);
// Workers check what they send; what surrounds a value, they do not count. So much above the limit is no oversight.
constexpr uint64_t kRoom = 1 << 20;

}  // namespace

Dispatcher::Dispatcher(TimerQueue& timers, Events& events, Options options)
    : timers_(timers), events_(events), options_(std::move(options)) {}

Dispatcher::~Dispatcher() {
  for (auto& [number, call] : calls_) timers_.Cancel(call->timer);
}

void Dispatcher::Configure(const std::vector<PoolSettings>& pools, uint64_t max_message_size,
                           const std::set<std::string>& leaving) {
  options_.max_message_size = max_message_size;
  names_.clear();
  for (auto& app : apps_) {
    app->leaving = app->configured && leaving.contains(app->name);
    app->configured = app->leaving;
  }
  for (const PoolSettings& pool : pools) {
    for (const AppSettings& settings : pool.apps) {
      auto it = std::find_if(apps_.begin(), apps_.end(), [&](auto& app) { return app->name == settings.name; });
      if (it == apps_.end()) it = apps_.insert(apps_.end(), std::make_unique<App>());
      App* app = it->get();
      app->name = settings.name;
      app->path = settings.path;
      app->limits = settings.limits;
      app->configured = true;
      app->leaving = false;
    }
  }
  absl::flat_hash_map<std::string, int> uses;
  for (auto& app : apps_) {
    if (!app->configured) continue;
    names_[app->name] = app.get();
    ++uses[app->path];
  }
  // An alias does not take the import path away, unless two apps share it.
  for (auto& app : apps_) {
    if (app->configured && uses[app->path] == 1) names_.try_emplace(app->path, app.get());
  }
  for (size_t i = apps_.size(); i-- > 0;) {
    EndQueueOfRemoved(apps_[i].get());
    MaybeErase(apps_[i].get());
  }
}

// What waits for an app that is not configured any more, and that no worker has, has waited for nothing.
void Dispatcher::EndQueueOfRemoved(App* app) {
  if (app->configured || !app->workers.empty()) return;
  while (app->head != nullptr) {
    Call* call = app->head;
    Dequeue(call);
    timers_.Cancel(call->timer);
    Outcome outcome;
    outcome.error = errors::AppNotFound(app->name, AppNames());
    Answer(call, std::move(outcome));
    Forget(call, /*erase_app=*/false);
  }
}

Dispatcher::App* Dispatcher::FindApp(absl::string_view name) {
  auto it = names_.find(name);
  return it == names_.end() ? nullptr : it->second;
}

Dispatcher::Worker* Dispatcher::FindWorker(WorkerId id) const {
  auto it = workers_.find(id);
  return it == workers_.end() ? nullptr : it->second.get();
}

// --- Callers ---

Admission Dispatcher::Refuse(App* app, const Submission& submission, errors::ErrorPtr error) {
  const v1::ExecuteRequest& request = *submission.request;
  if (app != nullptr) {
    app->counters.set_received(app->counters.received() + 1);
    Count(app, error->reason());
    error->set_app(app->name);
  } else {
    ++calls_without_app_;
  }
  error->set_action(std::string(Beginning(request.action(), errors::kMaxName)));
  CallRecord record;
  record.request_id = Beginning(request.request_id(), kMaxRequestId);
  record.app = Beginning(request.app(), errors::kMaxName);
  record.action = error->action();
  const std::string traceparent = Traceparent(submission.traceparent);
  record.trace_id = TraceId(traceparent);
  record.error = error.get();
  record.slow_call = absl::InfiniteDuration();
  events_.OnCallRecord(record);
  return {.call = 0, .refused = std::move(error)};
}

Admission Dispatcher::Submit(Submission submission) {
  const v1::ExecuteRequest& request = *submission.request;
  App* app = FindApp(request.app());
  if (closed_) return Refuse(app, submission, errors::ShuttingDown());
  if (request.app().empty()) {
    return Refuse(nullptr, submission, errors::InvalidRequest("the request names no app; set `app`"));
  }
  if (app == nullptr) return Refuse(nullptr, submission, errors::AppNotFound(request.app(), AppNames()));
  if (request.action().empty()) {
    return Refuse(app, submission, errors::InvalidRequest("the request names no action; set `action`"));
  }
  absl::Duration timeout = absl::InfiniteDuration();
  if (request.has_timeout()) {
    timeout = FromProto(request.timeout());
    if (timeout <= absl::ZeroDuration()) {
      return Refuse(app, submission,
                    errors::InvalidRequest("`timeout` must be above zero; leave it out for the configured limits"));
    }
  }
  if (uint64_t size = request.ByteSizeLong(); size > options_.max_message_size) {
    return Refuse(app, submission, errors::TooLarge("request", size, options_.max_message_size));
  }
  if (!app->available) return Refuse(app, submission, errors::NoWorkers(app->name, app->why));

  Worker* free = nullptr;
  if (app->head == nullptr) {
    for (Worker* worker : app->workers) {
      if (worker->HasFreeSlot() && (free == nullptr || worker->running.size() < free->running.size())) free = worker;
    }
  }
  if (free == nullptr && app->queued >= app->limits.queue_size) {
    return Refuse(app, submission, errors::QueueFull(app->name, app->limits.queue_size, RetryDelay(*app)));
  }

  auto owned = std::make_unique<Call>();
  Call* call = owned.get();
  call->number = next_number_++;
  calls_.emplace(call->number, std::move(owned));
  ++unanswered_;
  call->app = app;
  call->listener = submission.listener;
  call->request = std::move(submission.request);
  call->call_id = absl::StrCat(options_.id_prefix, call->number);
  call->request_id = std::string(Beginning(call->request->request_id(), kMaxRequestId));
  call->action = std::string(Beginning(call->request->action(), errors::kMaxName));
  call->traceparent = Traceparent(submission.traceparent);
  call->stream = submission.stream;
  call->credits = submission.credits == 0 ? kDefaultCredits : submission.credits;
  call->queued_at = timers_.Now();
  call->caller_deadline = std::min(call->queued_at + timeout, submission.client_deadline);
  app->counters.set_received(app->counters.received() + 1);
  if (free != nullptr) {
    StartCall(call, free);
  } else {
    Enqueue(call);
  }
  return {.call = call->number, .refused = nullptr};
}

errors::ErrorPtr Dispatcher::Refuse(const Submission& submission, errors::ErrorPtr error) {
  return Refuse(FindApp(submission.request->app()), submission, std::move(error)).refused;
}

void Dispatcher::Abandon(CallNumber number) { Leave(number, /*tell=*/false); }

void Dispatcher::CancelByCaller(CallNumber number) { Leave(number, /*tell=*/true); }

void Dispatcher::Leave(CallNumber number, bool tell) {
  auto it = calls_.find(number);
  if (it == calls_.end() || it->second->listener == nullptr) return;
  Call* call = it->second.get();
  if (!tell) call->listener = nullptr;
  Outcome outcome;
  outcome.error = errors::Cancelled("the client");
  if (call->worker == nullptr) return EndWaiting(call, std::move(outcome));
  Answer(call, std::move(outcome));
  AskToStop(call, v1::CANCEL_REASON_CLIENT, /*kill=*/false);
}

bool Dispatcher::Cancel(absl::string_view call_id, bool* was_running) {
  CallNumber number = 0;
  if (!absl::ConsumePrefix(&call_id, options_.id_prefix) || !absl::SimpleAtoi(call_id, &number)) return false;
  auto it = calls_.find(number);
  if (it == calls_.end()) return false;
  Call* call = it->second.get();
  if (was_running != nullptr) *was_running = call->worker != nullptr;
  bool answered = call->listener == nullptr;
  Outcome outcome;
  outcome.error = errors::Cancelled("an operator");
  if (call->worker == nullptr) {
    EndWaiting(call, std::move(outcome));
    return true;
  }
  if (!answered) Answer(call, std::move(outcome));
  AskToStop(call, v1::CANCEL_REASON_OPERATOR, /*kill=*/true);
  return true;
}

void Dispatcher::Credit(CallNumber number, uint32_t chunks) {
  auto it = calls_.find(number);
  if (it == calls_.end() || it->second->listener == nullptr || chunks == 0) return;
  Call* call = it->second.get();
  // From now on the gap is the worker's again.
  if (call->has_streamed && call->credits == 0) call->chunk_due = timers_.Now() + call->idle_timeout;
  call->credits += std::min(chunks, UINT32_MAX - call->credits);
  if (call->worker != nullptr) call->worker->port->Credit(number, chunks);
}

// --- Queues and slots ---

void Dispatcher::Enqueue(Call* call) {
  App* app = call->app;
  call->previous = app->tail;
  (app->tail == nullptr ? app->head : app->tail->next) = call;
  app->tail = call;
  ++app->queued;
  call->queue_deadline = std::min(call->queued_at + app->limits.queue_timeout, call->caller_deadline);
  call->timer = timers_.Schedule(call->queue_deadline, [this, call] { OnQueueDeadline(call); });
}

void Dispatcher::Dequeue(Call* call) {
  App* app = call->app;
  (call->previous == nullptr ? app->head : call->previous->next) = call->next;
  (call->next == nullptr ? app->tail : call->next->previous) = call->previous;
  call->previous = call->next = nullptr;
  --app->queued;
}

void Dispatcher::StartCall(Call* call, Worker* worker) {
  timers_.Cancel(call->timer);
  App* app = call->app;
  call->worker = worker;
  call->started_at = timers_.Now();
  worker->running.push_back(call);
  ++app->running;
  ++app->holding;
  call->run_deadline = std::min(call->started_at + app->limits.timeout, call->caller_deadline);
  if (call->stream) call->idle_timeout = app->limits.stream_idle_timeout;
  ScheduleRunTimer(call);

  auto start = std::make_unique<v1::StartCall>();
  start->set_call(call->number);
  start->set_call_id(call->call_id);
  if (call->request->app() != app->name) call->request->set_app(app->name);  // called by its path
  start->set_allocated_request(call->request.release());
  if (call->run_deadline != absl::InfiniteFuture()) {
    ToProto(call->run_deadline - call->started_at, start->mutable_time_left());
  }
  if (call->stream) {
    start->set_stream(true);
    start->set_credits(call->credits);
  }
  if (!call->traceparent.empty()) start->set_traceparent(call->traceparent);
  worker->port->Start(std::move(start));
}

void Dispatcher::PullWork(Worker* worker) {
  while (worker->HasFreeSlot()) {
    Call* oldest = nullptr;
    for (App* app : worker->apps) {
      if (app->head != nullptr && (oldest == nullptr || app->head->number < oldest->number)) oldest = app->head;
    }
    if (oldest == nullptr) return;
    App* app = oldest->app;
    if (IsWorthStarting(oldest)) {
      Dequeue(oldest);
      StartCall(oldest, worker);
    }
    // The last of a removed app.
    if (worker->draining && app->head == nullptr) {
      std::erase(worker->apps, app);
      TakeAppFrom(worker, app);
    }
  }
}

// --- Deadlines ---

bool Dispatcher::IsWorthStarting(Call* call) {
  const absl::Time now = timers_.Now();
  const absl::Duration waited = now - call->queued_at, left = call->caller_deadline - now;
  App* app = call->app;
  if (now >= call->queue_deadline) {  // its timer is due, and this came first
    timers_.Cancel(call->timer);
    OnQueueDeadline(call);
    return false;
  }
  if (app->shedder.WorthStarting(now, waited, left)) return true;
  Outcome outcome;
  outcome.error = errors::QueueTimeout(
      app->name, waited,
      absl::StrCat(errors::Seconds(left), " of the caller's time are left, and calls of this app need up to ",
                   errors::Seconds(app->shedder.need())));
  EndWaiting(call, std::move(outcome));
  return false;
}

void Dispatcher::OnQueueDeadline(Call* call) {
  call->timer = 0;
  Outcome outcome;
  outcome.error =
      errors::QueueTimeout(call->app->name, call->queue_deadline - call->queued_at, WhyNothingIsFree(*call->app));
  EndWaiting(call, std::move(outcome));
}

// A chunk moves no timer: what is due is looked at when it may have become due.
void Dispatcher::ScheduleRunTimer(Call* call) {
  absl::Time next = call->run_deadline;
  if (call->idle_timeout != absl::InfiniteDuration()) {
    next = std::min({next, call->chunk_due, timers_.Now() + call->idle_timeout});
  }
  call->timer = timers_.Schedule(next, [this, call] { OnRunTimer(call); });
}

void Dispatcher::OnRunTimer(Call* call) {
  call->timer = 0;
  absl::Time now = timers_.Now();
  if (now < call->run_deadline && now < call->chunk_due) return ScheduleRunTimer(call);
  if (now >= call->caller_deadline) {
    call->app->shedder.OnOutOfTime(now, call->started_at - call->queued_at, now - call->started_at);
  }
  if (call->listener != nullptr) {
    Outcome outcome;
    outcome.error = now >= call->run_deadline
                        ? errors::Timeout(call->app->name, call->action, call->run_deadline - call->started_at)
                        : errors::StreamIdle(call->app->name, call->action, call->idle_timeout);
    const absl::Duration waited = call->started_at - call->queued_at;
    if (now >= call->caller_deadline && waited > kNoticed) {
      absl::StrAppend(outcome.error->mutable_message(), ", what was left of the caller's time after it had waited ",
                      errors::Seconds(waited));
    }
    Answer(call, std::move(outcome));
  }
  AskToStop(call, v1::CANCEL_REASON_TIMEOUT, /*kill=*/true);
}

void Dispatcher::AskToStop(Call* call, v1::CancelReason reason, bool kill) {
  if (!std::exchange(call->asked_to_stop, true) || reason != v1::CANCEL_REASON_CLIENT) {
    call->worker->port->Cancel(call->number, reason);
  }
  if (!kill || std::exchange(call->will_be_killed, true)) return;
  timers_.Cancel(call->timer);
  call->timer = timers_.ScheduleIn(call->app->limits.kill_after, [this, call] {
    call->timer = 0;
    events_.OnCallStuck(
        call->worker->id, call->number,
        absl::StrCat(call->app->name, " ", call->action, " (call ", call->call_id,
                     call->traceparent.empty() ? "" : ", trace ", TraceId(call->traceparent),
                     ") was asked to stop and still runs after ", errors::Seconds(timers_.Now() - call->started_at)));
  });
}

// --- Outcomes ---

void Dispatcher::EndWaiting(Call* call, Outcome outcome) {
  Dequeue(call);
  timers_.Cancel(call->timer);
  Answer(call, std::move(outcome));
  Forget(call);
}

void Dispatcher::Answer(Call* call, Outcome outcome) {
  App* app = call->app;
  absl::Time now = timers_.Now();
  bool started = call->worker != nullptr;
  absl::Duration waited = (started ? call->started_at : now) - call->queued_at;
  absl::Duration ran = started ? now - call->started_at : absl::ZeroDuration();
  if (started) {
    --app->running;
    app->waited.Add(now, waited);
    app->ran.Add(now, ran);
    app->times.Add(call->action, waited, ran, outcome.error == nullptr);
  }
  --unanswered_;
  CallRecord record;
  if (outcome.error != nullptr) {
    v1::Error& error = *outcome.error;
    error.set_app(app->name);
    error.set_action(call->action);
    error.set_call_id(call->call_id);
    if (started) error.set_worker_id(call->worker->id);
    Count(app, error.reason());
    record.error = &error;
  } else {
    v1::ExecuteResponse& response = *outcome.response;
    response.set_call_id(call->call_id);
    response.set_worker_id(call->worker->id);
    ToProto(waited, response.mutable_queued_time());
    ToProto(ran, response.mutable_run_time());
    app->counters.set_ok(app->counters.ok() + 1);
  }
  record.call_id = call->call_id;
  record.request_id = call->request_id;
  record.app = app->name;
  record.action = call->action;
  record.trace_id = TraceId(call->traceparent);
  record.worker = started ? call->worker->id : 0;
  record.waited = waited;
  record.ran = ran;
  record.slow_call = app->limits.slow_call;
  events_.OnCallRecord(record);
  call->chunk_due = absl::InfiniteFuture();  // nobody waits for it
  if (CallListener* listener = std::exchange(call->listener, nullptr)) listener->OnDone(std::move(outcome));
  CheckAllEnded();
}

void Dispatcher::OnCallDone(WorkerId worker_id, v1::CallDone& done) {
  Worker* worker = FindWorker(worker_id);
  auto it = calls_.find(done.call());
  // A worker can only end what it was given and has not ended yet.
  if (worker == nullptr || it == calls_.end() || it->second->worker != worker) return;
  Call* call = it->second.get();
  App* app = call->app;
  absl::Duration ran = timers_.Now() - call->started_at;
  app->service_time += (ran - app->service_time) / 8;
  const bool refused = done.has_error() && done.error().reason() != v1::REASON_APP_ERROR;
  if (!call->asked_to_stop && !refused) app->shedder.OnServed(ran);
  if (call->listener != nullptr) {
    Outcome outcome;
    // Above the transport's own limit, what is to be sent would end us.
    if (const uint64_t size = done.ByteSizeLong(); size > options_.max_message_size + kRoom) {
      outcome.error = errors::TooLarge(done.has_error() ? "error" : "result", size, options_.max_message_size);
      done.clear_outcome();
    }
    switch (done.outcome_case()) {
      case v1::CallDone::kResponse:
        outcome.response.reset(done.release_response());
        break;
      case v1::CallDone::kError: {
        outcome.error.reset(done.release_error());
        v1::Reason reason = outcome.error->reason();
        bool known = reason == v1::REASON_INVALID_REQUEST || reason == v1::REASON_TOO_LARGE ||
                     (reason == v1::REASON_CANCELLED && call->asked_to_stop);
        if (!known) outcome.error->set_reason(v1::REASON_APP_ERROR);
        break;
      }
      case v1::CallDone::OUTCOME_NOT_SET:
        if (outcome.error == nullptr) outcome.response = std::make_unique<v1::ExecuteResponse>();
        break;
    }
    Answer(call, std::move(outcome));
  }
  FreeSlot(call);
}

void Dispatcher::OnCallChunk(WorkerId worker_id, v1::CallChunk& chunk) {
  auto it = calls_.find(chunk.call());
  if (it == calls_.end() || it->second->worker == nullptr || it->second->worker->id != worker_id) return;
  Call* call = it->second.get();
  if (!call->stream || call->listener == nullptr) return;
  if (call->credits == 0) return Stop(call, errors::ProtocolBroken(worker_id, "it sent a chunk without credit"));
  if (const uint64_t size = chunk.ByteSizeLong(); size > options_.max_message_size + kRoom) {
    return Stop(call, errors::TooLarge("chunk", size, options_.max_message_size));
  }
  call->has_streamed = true;
  --call->credits;
  if (call->idle_timeout != absl::InfiniteDuration()) {
    call->chunk_due = call->credits > 0 ? timers_.Now() + call->idle_timeout : absl::InfiniteFuture();
  }
  ++call->app->chunks;
  chunk.mutable_chunk();  // never null, whatever a worker sends
  call->listener->OnChunk(std::unique_ptr<v1::Chunk>(chunk.release_chunk()));
}

// What a worker does that it must not ends the call, and the worker if that does not end it.
void Dispatcher::Stop(Call* call, errors::ErrorPtr error) {
  Outcome outcome;
  outcome.error = std::move(error);
  Answer(call, std::move(outcome));
  AskToStop(call, v1::CANCEL_REASON_OPERATOR, /*kill=*/true);
}

void Dispatcher::FreeSlot(Call* call) {
  Worker* worker = call->worker;
  timers_.Cancel(call->timer);
  auto it = std::find(worker->running.begin(), worker->running.end(), call);
  DIRTY_CHECK(it != worker->running.end(), "call ", call->number, " is not on worker ", worker->id);
  *it = worker->running.back();
  worker->running.pop_back();
  ++worker->calls;
  --call->app->holding;
  Forget(call);
  events_.OnSlotFree(worker->id, worker->calls);  // may drain it
  PullWork(worker);
  TellIfIdle(worker);
}

void Dispatcher::Forget(Call* call, bool erase_app) {
  App* app = call->app;
  calls_.erase(call->number);
  if (erase_app) MaybeErase(app);
}

void Dispatcher::MaybeErase(App* app) {
  if (app->configured || app->queued > 0 || app->holding > 0 || !app->workers.empty()) return;
  apps_.erase(std::find_if(apps_.begin(), apps_.end(), [&](auto& other) { return other.get() == app; }));
}

// --- Workers ---

void Dispatcher::AddWorker(WorkerId id, uint32_t slots, const std::vector<std::string>& apps, WorkerPort* port) {
  DIRTY_CHECK(FindWorker(id) == nullptr, "worker ", id, " was added twice");
  auto owned = std::make_unique<Worker>();
  Worker* worker = owned.get();
  workers_.emplace(id, std::move(owned));
  worker->id = id;
  worker->slots = slots;
  worker->port = port;
  for (const std::string& name : apps) {
    auto it = std::find_if(apps_.begin(), apps_.end(), [&](auto& app) { return app->name == name; });
    if (it == apps_.end()) continue;  // removed while the worker started
    App* app = it->get();
    worker->apps.push_back(app);
    app->workers.push_back(worker);
    app->slots += slots;
    LetGoOfDraining(app);
  }
  PullWork(worker);
}

// An app that was removed is back: the worker that was to run what waited has no end of it else.
void Dispatcher::LetGoOfDraining(App* app) {
  for (Worker* worker : std::vector<Worker*>(app->workers)) {
    if (!worker->draining) continue;
    std::erase(worker->apps, app);
    TakeAppFrom(worker, app);
    TellIfIdle(worker);
  }
}

void Dispatcher::DrainWorker(WorkerId id) {
  Worker* worker = FindWorker(id);
  if (worker == nullptr || std::exchange(worker->draining, true)) return;
  std::vector<App*> apps = std::exchange(worker->apps, {});
  for (App* app : apps) {
    bool last = app->workers.size() == 1;
    if (app->leaving && last) {
      app->leaving = app->configured = false;
      absl::erase_if(names_, [app](const auto& entry) { return entry.second == app; });
    }
    // Calls that wait for a removed app can run nowhere else: they run here first.
    if (!app->configured && last && app->head != nullptr) {
      worker->apps.push_back(app);
    } else {
      TakeAppFrom(worker, app);
    }
  }
  PullWork(worker);
  TellIfIdle(worker);
}

void Dispatcher::CutOffWorker(WorkerId id) {
  Worker* worker = FindWorker(id);
  if (worker == nullptr) return;
  worker->draining = true;
  for (App* app : std::exchange(worker->apps, {})) TakeAppFrom(worker, app);
  TellIfIdle(worker);
}

void Dispatcher::TakeAppFrom(Worker* worker, App* app) {
  app->workers.erase(std::find(app->workers.begin(), app->workers.end(), worker));
  app->slots -= worker->slots;
  EndQueueOfRemoved(app);
  MaybeErase(app);
}

void Dispatcher::TellIfIdle(Worker* worker) {
  if (!worker->draining || !worker->running.empty()) return;
  timers_.Schedule(timers_.Now(), [this, id = worker->id] {
    if (FindWorker(id) != nullptr) events_.OnWorkerIdle(id);
  });
}

void Dispatcher::LoseWorker(WorkerId id, absl::string_view how, const v1::Error& details) {
  Worker* worker = FindWorker(id);
  if (worker == nullptr) return;
  CutOffWorker(id);
  std::vector<Call*> lost = std::exchange(worker->running, {});
  for (Call* call : lost) {
    timers_.Cancel(call->timer);
    if (call->listener != nullptr) {
      Outcome outcome;
      outcome.error = errors::WorkerLost(id, how);
      outcome.error->MergeFrom(details);
      Answer(call, std::move(outcome));
    }
    --call->app->holding;
    Forget(call);
  }
  workers_.erase(id);
}

void Dispatcher::SetAvailable(absl::string_view name, bool available, const std::string& why) {
  auto it = std::find_if(apps_.begin(), apps_.end(), [&](auto& app) { return app->name == name; });
  if (it == apps_.end()) return;
  App* app = it->get();
  app->available = available;
  app->why = why;
  while (!app->available && app->head != nullptr) {
    Call* call = app->head;
    Dequeue(call);
    timers_.Cancel(call->timer);
    Outcome outcome;
    outcome.error = errors::NoWorkers(app->name, why);
    Answer(call, std::move(outcome));
    Forget(call);
  }
}

// --- Shutdown ---

void Dispatcher::CloseAdmission() {
  closed_ = true;
  CheckAllEnded();
}

void Dispatcher::EndAllCalls() {
  std::vector<Call*> open;
  for (auto& [number, call] : calls_) {
    if (call->listener != nullptr) open.push_back(call.get());
  }
  std::sort(open.begin(), open.end(), [](Call* a, Call* b) { return a->number < b->number; });
  for (Call* call : open) {
    Outcome outcome;
    if (call->worker == nullptr) {
      Dequeue(call);
      timers_.Cancel(call->timer);
      outcome.error = errors::ShuttingDown();
      Answer(call, std::move(outcome));
      Forget(call);
    } else {
      outcome.error = errors::WorkerLost(call->worker->id, "was shut down");
      Answer(call, std::move(outcome));
      AskToStop(call, v1::CANCEL_REASON_SHUTDOWN, /*kill=*/false);
    }
  }
}

void Dispatcher::CheckAllEnded() {
  if (!closed_ || unanswered_ > 0 || std::exchange(told_all_ended_, true)) return;
  timers_.Schedule(timers_.Now(), [this] { events_.OnAllCallsEnded(); });
}

}  // namespace dirty
