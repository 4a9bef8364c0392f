# Debian packages: `cpack -G DEB` in a build directory of Debian. One for each part, so that a web server needs no
# arbiter and an arbiter no Python: dirtyd, dirtyctl, dirty-worker, dirty-bench, python3-dirty, libdirty-dev.
#
# Also what only an installed program has: man pages and completions, made from the --help of what was built.
# Included after the folders, whose install() lines say which component is whose. Those without a COMPONENT (the example)
# are in no package.

set(_dirty_deploy ${CMAKE_SOURCE_DIR}/deploy)
set(_dirty_made ${CMAKE_BINARY_DIR}/package)
file(MAKE_DIRECTORY ${_dirty_made})
find_package(Python3 REQUIRED COMPONENTS Interpreter)

# Pages and completions. A program that changed makes them again.
set(_dirty_pages)
function(_dirty_page program section component what)
  set(page ${_dirty_made}/${program}.${section})
  set(extra ${_dirty_deploy}/man/${program}.man)
  add_custom_command(
    OUTPUT ${page}.gz
    COMMAND ${Python3_EXECUTABLE} -B ${_dirty_deploy}/man/man_page.py $<TARGET_FILE:${program}> ${section} ${what}
            ${extra} > ${page}
    COMMAND gzip -9nf ${page}
    DEPENDS ${program} ${extra} ${_dirty_deploy}/man/man_page.py ${_dirty_deploy}/man/program_help.py
    COMMENT "Writing ${program}(${section})"
    VERBATIM)
  install(FILES ${page}.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT ${component})
  set(_dirty_pages ${_dirty_pages} ${page}.gz PARENT_SCOPE)
endfunction()
function(_dirty_completion program component shell file folder)
  set(made ${_dirty_made}/${shell}/${file})
  file(MAKE_DIRECTORY ${_dirty_made}/${shell})
  add_custom_command(
    OUTPUT ${made}
    COMMAND ${Python3_EXECUTABLE} -B ${_dirty_deploy}/man/completion.py ${shell} $<TARGET_FILE:${program}> > ${made}
    DEPENDS ${program} ${_dirty_deploy}/man/completion.py ${_dirty_deploy}/man/program_help.py
    COMMENT "Writing the completion of ${program} for ${shell}"
    VERBATIM)
  install(FILES ${made} DESTINATION ${CMAKE_INSTALL_DATADIR}/${folder} COMPONENT ${component})
  set(_dirty_pages ${_dirty_pages} ${made} PARENT_SCOPE)
endfunction()
_dirty_page(dirtyd 8 dirtyd "runs long, blocking, stateful work beside web workers")
_dirty_page(dirtyctl 1 dirtyctl "calls apps and steers dirtyd")
_dirty_page(dirty-worker 1 worker "runs native apps for dirtyd")
_dirty_page(dirty-bench 1 bench "measures how fast dirtyd runs calls")
foreach(program dirtyd dirtyctl)
  _dirty_completion(${program} ${program} bash ${program} bash-completion/completions)
  _dirty_completion(${program} ${program} zsh _${program} zsh/vendor-completions)
  _dirty_completion(${program} ${program} fish ${program}.fish fish/vendor_completions.d)
endforeach()
add_custom_target(dirty_pages ALL DEPENDS ${_dirty_pages})

# What only the packages have, at absolute paths: `cmake --install` leaves it out, but with --component it does not.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${_dirty_deploy}/systemd/dirtyd.service
                                                               ${CMAKE_SOURCE_DIR}/CHANGELOG.md)
file(READ ${_dirty_deploy}/systemd/dirtyd.service _dirty_unit)
string(REPLACE /usr/local/bin /usr/bin _dirty_unit "${_dirty_unit}")
file(CONFIGURE OUTPUT ${_dirty_made}/dirtyd.service CONTENT "${_dirty_unit}" @ONLY)
install(FILES ${_dirty_made}/dirtyd.service ${_dirty_deploy}/systemd/dirtyd.socket DESTINATION /lib/systemd/system
        COMPONENT dirtyd EXCLUDE_FROM_ALL)
install(FILES ${_dirty_deploy}/systemd/root.conf ${_dirty_deploy}/systemd/strict.conf
        DESTINATION /usr/share/doc/dirtyd/examples COMPONENT dirtyd EXCLUDE_FROM_ALL)
install(FILES ${_dirty_deploy}/debian/dirty.yaml DESTINATION /etc/dirty COMPONENT dirtyd EXCLUDE_FROM_ALL)

# The system's interpreter finds the packages without a path. Extensions for other interpreters stay out.
execute_process(COMMAND ${DIRTY_PYTHON3} -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'), end='')"
                OUTPUT_VARIABLE _dirty_suffix COMMAND_ERROR_IS_FATAL ANY)
install(CODE "set(staged \$ENV{DESTDIR}/usr/${DIRTY_PYTHON_DIR})
              set(dist \$ENV{DESTDIR}/usr/lib/python3/dist-packages)
              file(GLOB others \${staged}/_dirty.*.so)
              list(REMOVE_ITEM others \${staged}/_dirty${_dirty_suffix})
              if(others)
                file(REMOVE \${others})
              endif()
              file(MAKE_DIRECTORY \${dist})
              foreach(name dirty _dirty${_dirty_suffix} _dirty.pyi)
                file(CREATE_LINK ../../dirty/python/\${name} \${dist}/\${name} SYMBOLIC)
              endforeach()"
        COMPONENT python EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME dirty)
set(CPACK_PACKAGE_VENDOR dirty)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "") # each has its own
set(CPACK_PACKAGE_CONTACT "the authors of dirty <dirty@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE gzip) # xz is a fifth smaller and ten times as slow
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
                                                WORLD_EXECUTE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL dirtyd dirtyctl worker bench python python_worker dev)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)

# _dirty_package(COMPONENT NAME SECTION DEPENDS SUMMARY TEXT): a package, with the files of its documentation.
function(_dirty_package component name section depends summary text)
  string(TOUPPER ${component} upper)
  set(prefix CPACK_DEBIAN_${upper})
  set(${prefix}_PACKAGE_NAME ${name} PARENT_SCOPE)
  set(${prefix}_PACKAGE_SECTION ${section} PARENT_SCOPE)
  set(${prefix}_PACKAGE_DEPENDS "${depends}" PARENT_SCOPE)
  set(${prefix}_DESCRIPTION "${summary}\n${text}" PARENT_SCOPE)
  set(folder ${_dirty_made}/doc/${name})
  file(MAKE_DIRECTORY ${folder})
  file(WRITE ${folder}/changelog.Debian
       "dirty (${PROJECT_VERSION}-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n"
       " -- ${CPACK_PACKAGE_CONTACT}  Sun, 01 Nov 2026 12:00:00 +0000\n")
  file(COPY_FILE ${CMAKE_SOURCE_DIR}/CHANGELOG.md ${folder}/changelog)
  execute_process(COMMAND gzip -9nf ${folder}/changelog ${folder}/changelog.Debian COMMAND_ERROR_IS_FATAL ANY)
  install(FILES ${folder}/changelog.gz ${folder}/changelog.Debian.gz ${_dirty_deploy}/debian/copyright
          DESTINATION /usr/share/doc/${name} COMPONENT ${component} EXCLUDE_FROM_ALL)
endfunction()
_dirty_package(dirtyd dirtyd net "adduser" "sidecar for long, blocking, stateful work of web applications"
  "dirtyd runs apps in worker processes beside a web application, queues their\ncalls, enforces deadlines and replaces workers that crash or hang.")
_dirty_package(dirtyctl dirtyctl net "" "calls apps and steers dirtyd"
  "A command line for dirtyd: calls, status, a live view, reloads, scaling and\nhealth for probes.")
_dirty_package(worker dirty-worker net "" "runs native apps for dirtyd"
  "The worker process of dirtyd for apps in C++, which are shared libraries.")
_dirty_package(bench dirty-bench net "" "measures how fast dirtyd runs calls"
  "Calls an app as so many web workers would and tells latency, processor time\nand memory; with apps that echo.")
_dirty_package(python python3-dirty python "python3" "apps for dirtyd in Python, and calls to them"
  "The packages dirty (base class of apps, client) and dirty_worker (what runs\nthem), for the system's interpreter and its virtual environments.")
_dirty_package(dev libdirty-dev libdevel "libgrpc++-dev, libprotobuf-dev, nlohmann-json3-dev"
  "C++ headers and libraries for apps of dirtyd and calls to them"
  "dirty/app.h for native apps, the C++ client, the protos of dirty.v1, and a\nCMake package for them.")
set(CPACK_DEBIAN_DIRTYD_PACKAGE_RECOMMENDS "dirtyctl, dirty-worker | python3-dirty")
set(CPACK_DEBIAN_DIRTYD_PACKAGE_SUGGESTS "dirty-bench")
set(CPACK_DEBIAN_BENCH_PACKAGE_SUGGESTS "dirtyd, dirty-worker, python3-dirty")
file(WRITE ${_dirty_made}/conffiles "/etc/dirty/dirty.yaml\n")
set(CPACK_DEBIAN_DIRTYD_PACKAGE_CONTROL_EXTRA
    ${_dirty_deploy}/debian/dirtyd/postinst ${_dirty_deploy}/debian/dirtyd/prerm ${_dirty_deploy}/debian/dirtyd/postrm
    ${_dirty_made}/conffiles)
set(CPACK_DEBIAN_PYTHON_PACKAGE_CONTROL_EXTRA ${_dirty_deploy}/debian/python3-dirty/postinst
                                              ${_dirty_deploy}/debian/python3-dirty/prerm)

include(CPack)
# python3-dirty is two components: pip installs one of them without the other.
cpack_add_component_group(python)
cpack_add_component(python GROUP python)
cpack_add_component(python_worker GROUP python)

# cmake --build BUILD --target deb: builds what is packed, and makes BUILD/deb/*.deb and their SHA256SUMS.
set(_dirty_deb ${CMAKE_BINARY_DIR}/deb)
file(GLOB_RECURSE _dirty_packed CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/client/python/dirty/*.py*
     ${CMAKE_SOURCE_DIR}/worker/python/dirty_worker/*.py* ${_dirty_deploy}/debian/* ${_dirty_deploy}/systemd/*)
add_custom_command(
  OUTPUT ${_dirty_deb}/SHA256SUMS
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${_dirty_deb}
  COMMAND ${CMAKE_CPACK_COMMAND} -G DEB -B ${_dirty_deb}
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${_dirty_deb}/_CPack_Packages
  COMMAND cd ${_dirty_deb} && sha256sum *.deb > SHA256SUMS
  DEPENDS dirtyd dirty_exec dirtyctl dirty-worker dirty-bench dirty_bench_app dirty_client dirty_python dirty_pages
          ${_dirty_packed} ${_dirty_made}/dirtyd.service ${CMAKE_SOURCE_DIR}/CHANGELOG.md
  COMMENT "Packing into deb/")
add_custom_target(deb DEPENDS ${_dirty_deb}/SHA256SUMS)
