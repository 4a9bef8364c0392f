if(TARGET thumbnail)
  dirty_test(NAME thumbnail_test SOURCES thumbnail_test.cc LIBS dirty_native_host PCH)
  add_dependencies(thumbnail_test thumbnail)
  target_compile_definitions(
    thumbnail_test PRIVATE THUMBNAIL_LIBRARY="$<TARGET_FILE:thumbnail>"
                           THUMBNAIL_PICTURES="${CMAKE_SOURCE_DIR}/examples/thumbnail/pictures/")
  # GCC 12's leak checker dies of a signal of its own in a process with libvips' many libraries loaded; the worker's tests
  # look for leaks of our own code.
  string(REPLACE "detect_leaks=1" "detect_leaks=0" _dirty_no_leaks "${DIRTY_TEST_ENVIRONMENT}")
  set_tests_properties(thumbnail_test PROPERTIES ENVIRONMENT "${_dirty_no_leaks}")
endif()
