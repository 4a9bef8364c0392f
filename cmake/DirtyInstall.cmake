# What is installed beside the programs: the CMake package `dirty` with dirty::client (programs that call apps) and
# dirty::app (native apps), and a target `uninstall`. Targets join with install(TARGETS ... EXPORT dirtyTargets).

# Programs find shared libraries outside the system's folders where they were found at build time.
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)

set(DIRTY_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/dirty)
include(CMakePackageConfigHelpers)
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/dirtyConfig.cmake.in ${CMAKE_BINARY_DIR}/cmake/dirtyConfig.cmake
  INSTALL_DESTINATION ${DIRTY_CMAKE_DIR} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/cmake/dirtyConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/cmake/dirtyConfig.cmake ${CMAKE_BINARY_DIR}/cmake/dirtyConfigVersion.cmake
        DESTINATION ${DIRTY_CMAKE_DIR} COMPONENT dev)
install(EXPORT dirtyTargets NAMESPACE dirty:: DESTINATION ${DIRTY_CMAKE_DIR} COMPONENT dev)

# dirty::client's own libraries: the generated code, once, for programs that also use it directly, and gRPC.
function(_dirty_install_proto)
  set_target_properties(dirty_proto PROPERTIES EXPORT_NAME proto)
  install(TARGETS dirty_proto dirty_grpc EXPORT dirtyTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
          COMPONENT dev INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  get_target_property(folder dirty_proto BINARY_DIR)
  install(DIRECTORY ${folder}/gen/dirty DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev FILES_MATCHING PATTERN "*.pb.h")
endfunction()
cmake_language(DEFER CALL _dirty_install_proto)

add_custom_target(
  uninstall
  COMMAND ${CMAKE_COMMAND} -D MANIFEST=${CMAKE_BINARY_DIR}/install_manifest.txt -P
          ${CMAKE_CURRENT_LIST_DIR}/uninstall.cmake
  COMMENT "Removing what the last install wrote"
  VERBATIM)
