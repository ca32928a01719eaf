# SPDX-License-Identifier: Apache-2.0
# Target `dependencies`: jansson (its archive with LSK_STATIC), threads, libm. OpenBLAS is none: training opens it at run time (src/backend/cpu/train_gemm.h).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(DEPS REQUIRED IMPORTED_TARGET jansson)

add_library(dependencies INTERFACE)
if(LSK_STATIC)
  find_library(JANSSON_ARCHIVE NAMES libjansson.a HINTS ${DEPS_LIBRARY_DIRS} REQUIRED)
  target_link_libraries(dependencies INTERFACE ${JANSSON_ARCHIVE})
  target_include_directories(dependencies INTERFACE ${DEPS_INCLUDE_DIRS})
  target_link_options(dependencies INTERFACE -static-libgcc -Wl,--exclude-libs,ALL)
else()
  target_link_libraries(dependencies INTERFACE PkgConfig::DEPS)
endif()
target_link_libraries(dependencies INTERFACE Threads::Threads m ${CMAKE_DL_LIBS})

# Target `hub`: libcurl and libcrypto, for the program's downloads. Without them it runs what is on the disk, and says what is missing.
option(LSK_HUB "build `pull` and -hf where libcurl and libcrypto are found" ON)
add_library(hub INTERFACE)
if(LSK_HUB AND NOT LSK_STATIC)
  pkg_check_modules(HUB QUIET IMPORTED_TARGET libcurl>=7.85 libcrypto>=3.0)
  if(HUB_FOUND)
    target_link_libraries(hub INTERFACE PkgConfig::HUB)
    target_compile_definitions(hub INTERFACE LSK_HUB=1)
  else()
    message(NOTICE "libcurl or libcrypto is missing: no downloads from the hub (apt-get install libcurl4-openssl-dev libssl-dev)")
  endif()
endif()
