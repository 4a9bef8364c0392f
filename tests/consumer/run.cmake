# cmake -D BUILD=... -D SOURCE=... -D WORK=... -D COMPILER=... -D FLAGS=... -P run.cmake
# Installs the build into a prefix of its own, builds the project here against it, runs it, uninstalls, and fails if
# anything is left. Variables of the environment: DIRTY_SOCKET and DIRTY_CONSUMER_CALL ("APP ACTION ARGS") for a call.

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

set(prefix ${WORK}/prefix)
file(REMOVE_RECURSE ${WORK})
# The manifest of a real installation from this build stays as it is.
if(EXISTS ${BUILD}/install_manifest.txt)
  file(COPY_FILE ${BUILD}/install_manifest.txt ${WORK}.manifest)
endif()
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
file(RENAME ${BUILD}/install_manifest.txt ${WORK}/manifest.txt)
if(EXISTS ${WORK}.manifest)
  file(RENAME ${WORK}.manifest ${BUILD}/install_manifest.txt)
endif()

run(${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/build -G Ninja -D CMAKE_PREFIX_PATH=${prefix}
    -D CMAKE_CXX_COMPILER=${COMPILER} -D CMAKE_CXX_FLAGS=${FLAGS})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer)
if(DEFINED ENV{DIRTY_SOCKET} AND DEFINED ENV{DIRTY_CONSUMER_CALL})
  separate_arguments(call UNIX_COMMAND "$ENV{DIRTY_CONSUMER_CALL}")
  run(${WORK}/build/consumer ${call})
endif()
file(GLOB programs ${prefix}/bin/*)
foreach(program IN LISTS programs)
  run(${program} --version)
endforeach()

run(${CMAKE_COMMAND} -D MANIFEST=${WORK}/manifest.txt -P ${SOURCE}/../../cmake/uninstall.cmake)
file(GLOB_RECURSE left ${prefix}/*)
if(left)
  message(FATAL_ERROR "uninstall left ${left}")
endif()
