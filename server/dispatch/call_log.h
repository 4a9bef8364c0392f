// The log's lines of calls: of each that failed or was slow, and at level debug of every one. Of calls that never ran,
// which come by the thousand under overload, each kind has a line a second. Pure and loop-confined.
#pragma once

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "server/dispatch/dispatcher.h"
#include "server/loop/timers.h"
#include "server/observe/log.h"

namespace dirty {

class CallLog {
 public:
  // Both must outlive it.
  CallLog(TimerQueue& timers, Logger& log) : timers_(timers), log_(log) {}
  ~CallLog() { Flush(); }
  CallLog(const CallLog&) = delete;
  CallLog& operator=(const CallLog&) = delete;

  void Add(const CallRecord& record);

  // Tells now what waits for its second to be over.
  void Flush();

 private:
  // Of a call that never ran.
  struct Line {
    std::string message, call, request, app, action, waited, reason, trace;
  };

  // For a second after a line of its kind no other is written: the first waits, and the others are counted.
  struct Kind {
    TimerQueue::TimerId timer = 0;
    Line next;
    uint64_t counted = 0;  // with `next`; 0: there is none
  };

  void AddUnrun(const CallRecord& record);
  void Tell(const Line& line, uint64_t more);
  void OnSecondOver(const std::string& name);

  TimerQueue& timers_;
  Logger& log_;
  absl::flat_hash_map<std::string, Kind> kinds_;  // by reason, and by app if it is configured
};

}  // namespace dirty
