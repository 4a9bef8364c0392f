dirty_test(
  NAME client_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/client_call_test.cc ${CMAKE_CURRENT_LIST_DIR}/client_connect_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/client_session_test.cc ${CMAKE_CURRENT_LIST_DIR}/client_queue_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/client_utf8_test.cc ${CMAKE_CURRENT_LIST_DIR}/client_fake_arbiter.cc
  LIBS dirty::client dirty::proto
  PCH
  TIMEOUT 300)
dirty_test(
  NAME dirtyctl_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/client_ctl_test.cc ${CMAKE_CURRENT_LIST_DIR}/client_fake_arbiter.cc
  LIBS dirty_ctl
  PCH)

# The installed package, used from outside the tree.
set(_dirty_consumer_flags)
if(DIRTY_SANITIZE)
  set(_dirty_consumer_flags "-fsanitize=${DIRTY_SANITIZE} -fno-sanitize=vptr")
endif()
add_test(
  NAME consumer
  COMMAND
    ${CMAKE_COMMAND} -D BUILD=${CMAKE_BINARY_DIR} -D SOURCE=${CMAKE_SOURCE_DIR}/tests/consumer -D
    WORK=${CMAKE_BINARY_DIR}/consumer -D COMPILER=${CMAKE_CXX_COMPILER} -D FLAGS=${_dirty_consumer_flags} -P
    ${CMAKE_SOURCE_DIR}/tests/consumer/run.cmake)
set_tests_properties(consumer PROPERTIES TIMEOUT 300 ENVIRONMENT "${DIRTY_TEST_ENVIRONMENT}")
