dirty_test(
  NAME rpc_services_test
  SOURCES rpc_health_test.cc rpc_reflection_test.cc rpc_listener_test.cc rpc_passed_sockets_test.cc
  LIBS dirty::rpc_services dirty::server
  PCH)
dirty_test(NAME rpc_runtime_dir_test SOURCES rpc_runtime_dir_test.cc LIBS dirty::rpc_services PCH)
