/* SPDX-License-Identifier: Apache-2.0 */
#include "base/half.h"

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 0x3ffu;
    if (exp == 31)
        return f32_from_bits(sign | 0x7f800000u | (man << 13) | (man ? 0x400000u : 0)); /* a NaN comes out quiet */
    if (exp == 0) {
        if (man == 0)
            return f32_from_bits(sign);
        unsigned shift = (unsigned)__builtin_clz(man) - 21; /* a denormal: bring its leading one to bit 10 */
        return f32_from_bits(sign | ((113u - shift) << 23) | ((man << (shift + 13)) & 0x7fffffu));
    }
    return f32_from_bits(sign | ((exp + 112u) << 23) | (man << 13));
}

uint16_t f32_to_f16(float x)
{
    uint32_t u = f32_bits(x), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    if (a >= 0x477ff000u) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x33000001u) /* up to half of the smallest denormal rounds to zero */
        return (uint16_t)sign;
    uint32_t exp = a >> 23, man = (a & 0x7fffffu) | 0x800000u;
    unsigned shift = exp < 113 ? 126 - exp : 13;
    uint32_t kept = man >> shift, rest = man & ((1u << shift) - 1), half = 1u << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1u));
    uint32_t base = exp < 113 ? 0 : (exp - 113u) << 10; /* the hidden one adds the missing step to the exponent */
    return (uint16_t)(sign | (base + kept));
}
