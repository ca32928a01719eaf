/* SPDX-License-Identifier: Apache-2.0 */
/* The mode in which denormal inputs and results count as zero (FTZ and DAZ). Only x86 has it here: elsewhere denormals stay, except in products, which flush them by
   hand where they lack it (backend/cpu/matmul_plain.c). */
#ifndef BASE_DENORMALS_H
#define BASE_DENORMALS_H

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

#endif
