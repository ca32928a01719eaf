# SPDX-License-Identifier: Apache-2.0
# Target `dependencies`: jansson, pcre2 and utf8proc (their archives with LSK_STATIC), threads, libm.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(DEPS REQUIRED IMPORTED_TARGET jansson libpcre2-8 libutf8proc)

add_library(dependencies INTERFACE)
if(LSK_STATIC)
  foreach(name jansson pcre2-8 utf8proc)
    find_library(STATIC_${name} NAMES lib${name}.a HINTS ${DEPS_LIBRARY_DIRS} REQUIRED)
    target_link_libraries(dependencies INTERFACE ${STATIC_${name}})
  endforeach()
  target_include_directories(dependencies INTERFACE ${DEPS_INCLUDE_DIRS})
  target_compile_definitions(dependencies INTERFACE UTF8PROC_STATIC)
  target_link_options(dependencies INTERFACE -static-libgcc -Wl,--exclude-libs,ALL)
else()
  target_link_libraries(dependencies INTERFACE PkgConfig::DEPS)
endif()
target_link_libraries(dependencies INTERFACE Threads::Threads m)
