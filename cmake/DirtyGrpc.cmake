# dirty::grpc: gRPC, Protocol Buffers and abseil for our programs.
#
# Linked statically where the archives are installed (Debian has them beside the shared libraries; dynamic gRPC costs
# 8 to 10 us a process on the path of a call, docs/architecture.md), else as the CMake packages say.

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_program(DIRTY_PROTOC protoc REQUIRED)
find_program(DIRTY_GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)
pkg_check_modules(DIRTY_GRPCPP REQUIRED grpc++)

add_library(dirty_grpc INTERFACE)
add_library(dirty::grpc ALIAS dirty_grpc)
target_include_directories(dirty_grpc SYSTEM INTERFACE "$<BUILD_INTERFACE:${DIRTY_GRPCPP_INCLUDE_DIRS}>")
# Whoever links our libraries from outside gets gRPC's own package.
target_link_libraries(dirty_grpc INTERFACE "$<INSTALL_INTERFACE:gRPC::grpc++;protobuf::libprotobuf>")
set_target_properties(dirty_grpc PROPERTIES EXPORT_NAME grpc)

option(DIRTY_STATIC_GRPC "Link gRPC statically into the programs" ON)
set(_dirty_archives)
if(DIRTY_STATIC_GRPC)
  set(_dirty_names grpc++_reflection ${DIRTY_GRPCPP_STATIC_LIBRARIES} protobuf)
  list(REMOVE_ITEM _dirty_names grpc++_reflection dl rt atomic pthread m)
  list(REMOVE_DUPLICATES _dirty_names)
  foreach(_name IN LISTS _dirty_names)
    find_library(DIRTY_ARCHIVE_${_name} NAMES lib${_name}.a PATHS ${DIRTY_GRPCPP_STATIC_LIBRARY_DIRS})
    mark_as_advanced(DIRTY_ARCHIVE_${_name})
    if(DIRTY_ARCHIVE_${_name})
      list(APPEND _dirty_archives ${DIRTY_ARCHIVE_${_name}})
    else()
      message(STATUS "lib${_name}.a is missing: gRPC is linked dynamically")
      set(_dirty_archives)
      break()
    endif()
  endforeach()
endif()

if(_dirty_archives)
  string(JOIN "," _dirty_group ${_dirty_archives})
  target_link_libraries(
    dirty_grpc INTERFACE "$<BUILD_INTERFACE:$<LINK_GROUP:RESCAN,${_dirty_group}>>" Threads::Threads ${CMAKE_DL_LIBS})
else()
  find_package(gRPC CONFIG REQUIRED)
  target_link_libraries(dirty_grpc INTERFACE "$<BUILD_INTERFACE:gRPC::grpc++;protobuf::libprotobuf>" Threads::Threads)
endif()

# dirty_protobuf(TARGET NAME ROOT DIR PROTOS a.proto ... [GRPC a.proto ...])
# A static library of the C++ code of PROTOS (paths below ROOT); those in GRPC also get service stubs.
function(dirty_protobuf)
  cmake_parse_arguments(ARG "" "TARGET;ROOT" "PROTOS;GRPC" ${ARGN})
  set(out ${CMAKE_CURRENT_BINARY_DIR}/gen)
  file(MAKE_DIRECTORY ${out})
  set(sources)
  foreach(proto IN LISTS ARG_PROTOS)
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    set(made ${out}/${stem}.pb.cc ${out}/${stem}.pb.h)
    set(args --cpp_out=${out})
    if(proto IN_LIST ARG_GRPC)
      list(APPEND made ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h)
      list(APPEND args --grpc_out=${out} --plugin=protoc-gen-grpc=${DIRTY_GRPC_CPP_PLUGIN})
    endif()
    add_custom_command(
      OUTPUT ${made}
      COMMAND ${DIRTY_PROTOC} -I ${ARG_ROOT} ${args} ${ARG_ROOT}/${proto}
      DEPENDS ${ARG_ROOT}/${proto}
      COMMENT "Generating ${stem}.pb.{h,cc}"
      VERBATIM)
    list(APPEND sources ${made})
  endforeach()
  add_library(${ARG_TARGET} STATIC ${sources})
  target_include_directories(${ARG_TARGET} SYSTEM PUBLIC $<BUILD_INTERFACE:${out}>)
  target_link_libraries(${ARG_TARGET} PUBLIC dirty::grpc)
  set_target_properties(${ARG_TARGET} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_CLANG_TIDY "")
endfunction()
