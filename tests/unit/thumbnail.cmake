if(TARGET thumbnail)
  dirty_test(NAME thumbnail_test SOURCES thumbnail_test.cc LIBS dirty_native_host PCH)
  add_dependencies(thumbnail_test thumbnail)
  target_compile_definitions(
    thumbnail_test PRIVATE THUMBNAIL_LIBRARY="$<TARGET_FILE:thumbnail>"
                           THUMBNAIL_PICTURES="${CMAKE_SOURCE_DIR}/examples/thumbnail/pictures/")
endif()
