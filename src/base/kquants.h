/* SPDX-License-Identifier: Apache-2.0 */
/* Q4_K and Q6_K: super-blocks of 256 values whose stretches have scales of few bits, which share a 16-bit one. base/dtype.h says what the fields are. */
#ifndef BASE_KQUANTS_H
#define BASE_KQUANTS_H

#include <stdint.h>
#include <string.h>

enum { KQUANT_K = 256, Q4_K_STRETCH = 32, Q6_K_STRETCH = 16, Q4_K_STRETCHES = 8, Q6_K_STRETCHES = 16 };
enum { Q4_K_CODES = 16, Q4_K_BYTES = 144, Q6_K_HIGH = 128, Q6_K_SCALES = 192, Q6_K_D = 208, Q6_K_BYTES = 210 }; /* offsets and sizes */

/* The 6-bit scale and minimum of stretch b of a Q4_K block. */
static inline void q4_k_scale(const uint8_t *block, int b, int *scale, int *minimum)
{
    const uint8_t *s = block + 4;
    *scale = b < 4 ? s[b] & 63 : (s[b + 4] & 15) | s[b - 4] >> 6 << 4;
    *minimum = b < 4 ? s[b + 4] & 63 : s[b + 4] >> 4 | s[b] >> 6 << 4;
}

static inline uint64_t kquant_bytes(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

/* Codes 8j..8j+7 of stretch b, one in each byte, in the order in which bytes lie in memory. */
static inline uint64_t q4_k_codes(const uint8_t *block, int b, int j) { return kquant_bytes(block + Q4_K_CODES + b / 2 * 32 + 8 * j) >> 4 * (b % 2) & 0x0f0f0f0f0f0f0f0fu; }

/* Of these of Q6_K the low four bits, and the two above them. */
static inline uint64_t q6_k_low(const uint8_t *block, int b, int j)
{
    return kquant_bytes(block + b / 8 * 64 + b % 4 * 16 + 8 * j) >> b % 8 / 4 * 4 & 0x0f0f0f0f0f0f0f0fu;
}

static inline uint64_t q6_k_high(const uint8_t *block, int b, int j)
{
    return kquant_bytes(block + Q6_K_HIGH + b / 8 * 32 + b % 2 * 16 + 8 * j) >> b % 8 / 2 * 2 & 0x0303030303030303u;
}

/* One block. */
void q4_k_to_f32(const uint8_t *block, float *out);
void q6_k_to_f32(const uint8_t *block, float *out);
void q4_k_from_f32(const float *x, uint8_t *block);
void q6_k_from_f32(const float *x, uint8_t *block);

/* The same codes in 8 blocks of Q4_1, whose scales and minima are d s and -m t rounded to 16 bits. */
void q4_k_to_q4_1(const uint8_t *block, uint8_t *out);

#endif
