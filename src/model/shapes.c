/* SPDX-License-Identifier: Apache-2.0 */
#include "model/shapes.h"

#include <stddef.h>
#include <string.h>

/* clang-format off */
#define LLAMA3_ROPE .rope_factor = 32, .rope_low = 1, .rope_high = 4
#define LLAMA3_ENDS .bos = 128000, .eos = 128001
#define ENDS .bos = 1, .eos = 2

static const struct shape shapes[] = {
    /*                                          layers hidden ffn heads kv head_dim vocab context theta  eps   range */
    {"llama2-7b", "6.7 G parameters",               32, 4096, 11008, 32, 32, 128, 32000, 4096, 1e4, 1e-5, 0.02, ENDS},
    {"llama2-13b", "13.0 G parameters",             40, 5120, 13824, 40, 40, 128, 32000, 4096, 1e4, 1e-5, 0.02, ENDS},
    {"llama2-70b", "69.0 G parameters",             80, 8192, 28672, 64, 8, 128, 32000, 4096, 1e4, 1e-5, 0.02, ENDS},
    {"codellama-7b", "6.7 G parameters",            32, 4096, 11008, 32, 32, 128, 32016, 16384, 1e6, 1e-5, 0.02, ENDS},
    {"codellama-34b", "33.7 G parameters",          48, 8192, 22016, 64, 8, 128, 32000, 16384, 1e6, 1e-5, 0.02, ENDS},
    {"llama3-8b", "8.0 G parameters",               32, 4096, 14336, 32, 8, 128, 128256, 8192, 5e5, 1e-5, 0.02, LLAMA3_ENDS},
    {"llama3.2-1b", "1.5 G parameters (tied 1.2 G)", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 5e5, 1e-5, 0.02, LLAMA3_ROPE, .rope_original = 8192, LLAMA3_ENDS},
    {"smollm2-135m", "163 M parameters (tied 135 M)", 30, 576, 1536, 9, 3, 64, 49152, 8192, 1e5, 1e-5, 0.02, ENDS},
    {"tinyllama-1.1b", "1.1 G parameters",          22, 2048, 5632, 32, 4, 64, 32000, 2048, 1e4, 1e-5, 0.02, ENDS},
    {"tiny", "for tests",                            4, 64, 176, 4, 4, 16, 515, 4096, 1e4, 1e-5, 0.16, ENDS},
    {"tiny-gqa", "for tests: one KV head for three", 5, 96, 200, 6, 2, 16, 512, 2048, 1e4, 1e-2, 0.13, ENDS},
    {"tiny-tied", "for tests: embedding as head",    4, 64, 160, 4, 2, 16, 509, 2048, 1e5, 1e-5, 0.16, .tied = true, ENDS},
    {"tiny-llama3", "for tests: rope scaling",       4, 128, 256, 4, 1, 32, 768, 4096, 5e5, 1e-5, 0.11, LLAMA3_ROPE, .rope_original = 64, ENDS},
    {"tiny-headdim", "for tests: heads wider than hidden / heads", 4, 72, 184, 4, 2, 32, 600, 2048, 1e4, 1e-6, 0.15, ENDS},
    {"tiny-bias", "for tests: biases everywhere",    4, 64, 144, 4, 2, 16, 512, 2048, 1e4, 1e-5, 0.16, .biases = true, ENDS},
    {"tiny-256", "for tests: whole super-blocks", 4, 256, 512, 4, 2, 64, 512, 2048, 1e4, 1e-5, 0.08, ENDS},
    {"tiny-ties", "for tests: head rows in pairs one ulp apart, so that any changed bit changes text",
                                                     4, 64, 160, 4, 2, 16, 512, 2048, 1e4, 1e-5, 0.16, .twins = true, ENDS},
};
/* clang-format on */

enum { N_SHAPES = sizeof shapes / sizeof *shapes };

const struct shape *shape_at(int i) { return i >= 0 && i < N_SHAPES ? &shapes[i] : NULL; }

const struct shape *shape_find(const char *name)
{
    for (int i = 0; i < N_SHAPES; i++)
        if (!strcmp(shapes[i].name, name))
            return &shapes[i];
    return NULL;
}
