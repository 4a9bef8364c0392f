# dirty::process: this process and its workers' as the kernel sees them; the log. No gRPC.

add_library(
  dirty_process STATIC
  loop/process_signals.cc loop/tcp_socket.cc loop/timers.cc loop/watcher.cc
  observe/log.cc observe/metrics.cc observe/metrics_process.cc observe/metrics_server.cc observe/metrics_text.cc
  observe/process_title.cc observe/systemd.cc observe/worker_output.cc
  supervise/accounts.cc supervise/child_process.cc supervise/exec_hooks.cc supervise/posix_cgroup.cc supervise/posix_launcher.cc
  supervise/python_config.cc supervise/python_hooks.cc
  supervise/worker_process.cc supervise/workers_directory.cc)
add_library(dirty::process ALIAS dirty_process)
target_link_libraries(dirty_process PUBLIC dirty::options dirty::proto Threads::Threads)
add_dependencies(dirty_process dirty_exec)
add_subdirectory(spawn)
