# The worker: the pure parts, and the real dirty-worker attached to by an arbiter that the test plays.

dirty_test(NAME worker_json_test SOURCES worker_json_test.cc worker_lead_test.cc LIBS dirty_native_host PCH)

dirty_test(NAME worker_process_test SOURCES worker_process_test.cc worker_fake_arbiter.cc LIBS dirty::proto dirty::app PCH
           TIMEOUT 300)
target_compile_definitions(worker_process_test PRIVATE DIRTY_WORKER_PROGRAM="$<TARGET_FILE:dirty-worker>"
                                                       DIRTY_TEST_APPS="${CMAKE_BINARY_DIR}/tests/apps")
add_dependencies(worker_process_test dirty-worker test_apps)
