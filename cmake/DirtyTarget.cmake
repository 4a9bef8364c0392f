# dirty::options: what every target of ours compiles with; dirty_pch(TARGET): gRPC's headers, compiled once. Hardening is
# for the whole build, for what protoc generates, too; tools/check_hardening looks at what came of it.

set(DIRTY_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize takes them")

add_library(dirty_options INTERFACE)
add_library(dirty::options ALIAS dirty_options)
target_compile_features(dirty_options INTERFACE cxx_std_20)
target_compile_options(dirty_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Werror)
# Our code alone, not the generated one. Threads count at once, and a count that is lost may be a line's only one:
# -fprofile-update=atomic, from a file, since ccache caches nothing that is compiled with that option. Ninja compiles in the
# build's folder. Of such a file ccache looks at the time, as of a compiler.
configure_file(${CMAKE_CURRENT_LIST_DIR}/coverage.specs ${CMAKE_BINARY_DIR}/coverage.specs COPYONLY)
execute_process(COMMAND touch -d @0 coverage.specs WORKING_DIRECTORY ${CMAKE_BINARY_DIR} COMMAND_ERROR_IS_FATAL ANY)
target_compile_options(dirty_options INTERFACE $<$<CONFIG:Coverage>:--coverage> $<$<CONFIG:Coverage>:-specs=coverage.specs>)
target_link_options(dirty_options INTERFACE $<$<CONFIG:Coverage>:--coverage>)
target_include_directories(dirty_options INTERFACE ${CMAKE_SOURCE_DIR})
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(dirty_options INTERFACE -Wthread-safety)
endif()
# Position-independent programs are the compilers' default. No -fcf-protection: the linker drops it from a program of which
# one object lacks it, as those of Debian's static gRPC do. The standard library's own checks cost time: not in a release.
add_compile_options(-fstack-protector-strong $<$<CXX_COMPILER_ID:GNU>:-fstack-clash-protection>)
add_compile_definitions($<$<CONFIG:RelWithDebInfo,Release>:_FORTIFY_SOURCE=2> $<$<CONFIG:Debug>:_GLIBCXX_ASSERTIONS>)
add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack)
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  # Line tables are enough for a backtrace; full debug information doubles the build.
  string(REPLACE "-g" "-g1" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")
endif()
if(DIRTY_SANITIZE)
  # For the whole build, generated code too: a sanitizer must see every access.
  add_compile_options(-fsanitize=${DIRTY_SANITIZE} -fno-omit-frame-pointer -O1 -g1)
  add_link_options(-fsanitize=${DIRTY_SANITIZE})
  if(DIRTY_SANITIZE MATCHES undefined)
    add_compile_options(-fno-sanitize-recover=undefined -fno-sanitize=vptr)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      add_library(dirty_ubsan_reports OBJECT ${CMAKE_SOURCE_DIR}/tests/ubsan_reports.cc)
      set_target_properties(dirty_ubsan_reports PROPERTIES POSITION_INDEPENDENT_CODE ON)
      target_link_libraries(dirty_options INTERFACE $<BUILD_INTERFACE:$<TARGET_OBJECTS:dirty_ubsan_reports>>)
    endif()
  endif()
endif()

# One precompiled header for everything that includes gRPC: 7 s of a 9 s compilation.
function(dirty_pch target)
  if(NOT TARGET dirty_pch_target)
    file(WRITE ${CMAKE_BINARY_DIR}/pch/pch.cc "// Compiled for its precompiled header only.\n")
    add_library(dirty_pch_target OBJECT ${CMAKE_BINARY_DIR}/pch/pch.cc)
    target_link_libraries(dirty_pch_target PRIVATE dirty::options dirty::proto)
    target_precompile_headers(
      dirty_pch_target PRIVATE
      <functional> <map> <memory> <optional> <string> <vector>
      <grpcpp/grpcpp.h> <grpcpp/alarm.h>
      <absl/status/statusor.h> <absl/strings/str_cat.h> <absl/time/time.h> <absl/container/flat_hash_map.h>
      <dirty/v1/arbiter.grpc.pb.h> <dirty/v1/worker.grpc.pb.h> <dirty/v1/admin.grpc.pb.h> <dirty/v1/config.pb.h>)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(dirty_pch_target PRIVATE -fpch-preprocess)
    endif()
    target_compile_options(dirty_pch_target PRIVATE "$<$<CXX_COMPILER_ID:Clang>:SHELL:-Xclang -fno-pch-timestamp>")
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
  target_precompile_headers(${target} REUSE_FROM dirty_pch_target)
endfunction()
