/* SPDX-License-Identifier: Apache-2.0 */
/* What every cmocka test file needs, in the order cmocka wants it; and a small generator of test data. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#undef fail /* base/error.h has the word */
#undef fail_msg /* cmocka's would call that one */
#define fail_msg(...) (print_error("ERROR: " __VA_ARGS__), print_error("\n"), _fail(__FILE__, __LINE__))

/* A sanitizer has its own malloc, needs more memory, and is slow: what it looks for needs no large numbers. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Prints an error's text and fails the test. */
#define fail_with(text)                \
    do {                               \
        print_error("%s\n", text);     \
        assert_true(!"the text above"); \
    } while (0)

/* xorshift64*: test data must not come from the generator under test. */
static inline uint64_t check_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

static inline int check_below(uint64_t *state, int n) { return (int)(check_random(state) >> 33) % n; }

/* Uniform in [-1, 1). */
static inline float check_float(uint64_t *state) { return (float)(check_random(state) >> 40) / 8388608.0f - 1.0f; }

/* Roughly normal, standard deviation 1. */
static inline float check_normal(uint64_t *state)
{
    float s = 0;
    for (int i = 0; i < 12; i++)
        s += check_float(state);
    return s / 2;
}

#endif
