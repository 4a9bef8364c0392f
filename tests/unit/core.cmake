# The pure core: timers, dispatcher, supervisor and arbiter, with a fake clock, fake processes and fake links.
dirty_test(NAME core_test SOURCES core_timers_test.cc core_dispatcher_test.cc core_supervisor_test.cc core_rollout_test.cc core_recent_times_test.cc core_arbiter_test.cc
          core_streams_test.cc core_overload_test.cc core_frames_test.cc
           LIBS dirty::core)
dirty_test(NAME status_test SOURCES status_test.cc LIBS dirty::server PCH)
