dirty_test(
  NAME client_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/client_call_test.cc ${CMAKE_CURRENT_LIST_DIR}/client_connect_test.cc
          ${CMAKE_CURRENT_LIST_DIR}/client_fake_arbiter.cc
  LIBS dirty::client dirty::proto
  PCH)
