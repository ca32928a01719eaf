/* SPDX-License-Identifier: Apache-2.0 */
/* The mode in which denormal inputs and results count as zero (FTZ and DAZ). Only x86 has it here: elsewhere denormals stay, except in products, which flush them by
   hand where they lack it (backend/cpu/matmul_plain.c). */
#ifndef BASE_DENORMALS_H
#define BASE_DENORMALS_H

#include <stdbool.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

/* For this thread; returns the mode to be restored. */
static inline unsigned denormals_flush(void)
{
#ifdef __SSE2__
    unsigned old = _mm_getcsr();
    _mm_setcsr(old | 0x8040u);
    return old;
#else
    return 0;
#endif
}

static inline void denormals_restore(unsigned old)
{
#ifdef __SSE2__
    _mm_setcsr(old);
#else
    (void)old;
#endif
}

/* Does the machine keep that mode? valgrind does not. */
static inline bool denormals_flushable(void)
{
    unsigned old = denormals_flush();
#ifdef __SSE2__
    bool kept = (_mm_getcsr() & 0x8040u) == 0x8040u;
#else
    bool kept = false;
#endif
    denormals_restore(old);
    return kept;
}

#endif
