# SPDX-License-Identifier: Apache-2.0
# find_package(layerskip): layerskip::layerskip is the shared library, layerskip::static the archive, which needs jansson's files for building.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(JANSSON QUIET IMPORTED_TARGET jansson)
endif()
include(${CMAKE_CURRENT_LIST_DIR}/layerskip-targets.cmake)
