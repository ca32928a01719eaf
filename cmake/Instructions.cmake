# SPDX-License-Identifier: Apache-2.0
# Kernel files are named after the instruction set that they may use (x_avx512.c, x_avx2.c) and are chosen at run time;
# everything else is what the compiler makes by default, so that one build starts on every CPU.
set(AVX512_OPTIONS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mavx512vnni;-mfma;-mf16c;-mprefer-vector-width=512")
set(AVX2_OPTIONS "-mavx2;-mfma;-mf16c")

if(LSK_SANITIZE MATCHES "address" AND CMAKE_C_COMPILER_ID MATCHES "Clang") # clang needs minutes for both sanitizers in one of these; their drivers and plain kernels have both
  list(APPEND AVX512_OPTIONS -fno-sanitize=undefined,float-cast-overflow)
endif()

function(set_instructions)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    return()
  endif()
  foreach(source ${ARGN})
    if(source MATCHES "_avx512\\.c$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${AVX512_OPTIONS}")
    elseif(source MATCHES "_avx2\\.c$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${AVX2_OPTIONS}")
    endif()
  endforeach()
endfunction()
