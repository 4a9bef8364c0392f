dirty_test(
  NAME process_test
  SOURCES launch_cgroup_test.cc launch_hooks_test.cc launch_launcher_test.cc launch_output_test.cc launch_process_test.cc
          launch_python_config_test.cc launch_python_hooks_test.cc
          log_writer_test.cc systemd_test.cc watcher_test.cc
  LIBS dirty::process
  TIMEOUT 300)
target_compile_definitions(process_test PRIVATE DIRTY_TEST_LIBEXEC="${CMAKE_BINARY_DIR}/${DIRTY_LIBEXEC_DIR}")
