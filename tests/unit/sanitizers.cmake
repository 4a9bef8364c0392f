# The sanitizers themselves, in the builds that have one.
if(DIRTY_SANITIZE)
  add_executable(sanitizers_planted sanitizers_planted.cc)
  target_link_libraries(sanitizers_planted PRIVATE dirty::options Threads::Threads)
  set_target_properties(sanitizers_planted PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  dirty_test(NAME sanitizers_test SOURCES sanitizers_test.cc LIBS dirty::grpc)
  target_compile_definitions(sanitizers_test PRIVATE DIRTY_PLANTED="$<TARGET_FILE:sanitizers_planted>"
                                                     DIRTY_SANITIZE="${DIRTY_SANITIZE}")
  add_dependencies(sanitizers_test sanitizers_planted)
endif()
