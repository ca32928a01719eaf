# SPDX-License-Identifier: Apache-2.0
# `ninja bench`: every bench/bench_*.c as a program of its own, in the build folder's bench/.
file(GLOB BENCH_SOURCES CONFIGURE_DEPENDS bench/bench_*.c)
add_custom_target(bench)
foreach(source ${BENCH_SOURCES})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} EXCLUDE_FROM_ALL ${source} $<TARGET_OBJECTS:core>)
  target_include_directories(${name} PRIVATE src include bench)
  target_link_libraries(${name} PRIVATE dependencies)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bench)
  add_dependencies(bench ${name})
endforeach()
