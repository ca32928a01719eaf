/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the kernels of prefill are at the shape of Llama-2-13B: each alone, and a layer of them. */
#include "check.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/cuda/prefill.h"
#include "base/half.h"

static int clusters;
static uint64_t seed = 0x9e3779b97f4a7c15ull;

/* Nothing works after a fault. */
static void gpu(cudaError_t e, const char *call, int line)
{
    if (e == cudaSuccess)
        return;
    fprintf(stderr, "line %d: %s: %s\n", line, call, cudaGetErrorString(e));
    _exit(1);
}
#define GPU(call) gpu((call), #call, __LINE__)

static void *up(const void *host, size_t bytes)
{
    void *p;
    GPU(cudaMalloc(&p, bytes));
    GPU(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice));
    return p;
}

static void *poisoned(size_t bytes)
{
    void *p;
    GPU(cudaMalloc(&p, bytes));
    GPU(cudaMemset(p, 0xff, bytes));
    return p;
}

/* Memory of the device; NULL: none. */
static void drop(const void *a, const void *b, const void *c, const void *d)
{
    const void *all[] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        GPU(cudaFree((void *)all[i]));
}

enum { ROWS = 2048, HIDDEN = 5120, FFN = 13824, HEADS = 40, DIM = 128, LAYERS = 40 };

struct layer13 {
    struct prefill_product qkv, o, gate, down;
    struct prefill_attend attend;
    struct prefill_norm norm;
};

enum { BLOCK = 2176 * 1152 }; /* bytes: whole units of any kind */

/* A block over and over, to any length. */
static void *repeat(const uint8_t *block, size_t bytes)
{
    uint8_t *p = poisoned(bytes);
    for (size_t at = 0; at < bytes; at += BLOCK)
        GPU(cudaMemcpy(p + at, block, bytes - at < BLOCK ? bytes - at : BLOCK, cudaMemcpyHostToDevice));
    return p;
}

static void *random_device(size_t bytes, float scale)
{
    static uint16_t block[BLOCK / 2];
    for (int i = 0; i < BLOCK / 2; i++)
        block[i] = f32_to_bf16(check_float(&seed) * scale);
    return repeat((const uint8_t *)block, bytes);
}

/* Units of random codes, with scales that make weights of about 0.02. */
static void *random_codes(size_t bytes, int kind)
{
    static uint8_t block[BLOCK];
    int unit = (int)packed_unit_bytes(kind), scales = kind == PACKED_Q8 ? 2048 : 1024;
    uint16_t scale = f32_to_f16(kind == PACKED_Q8 ? 0.02f / 70 : 0.02f / 5);
    for (int i = 0; i < BLOCK; i++)
        block[i] = (uint8_t)(check_random(&seed) >> 40);
    for (int u = 0; u < BLOCK; u += unit)
        for (int i = scales; i < unit; i += 2)
            memcpy(block + u + i, &scale, 2);
    return repeat(block, bytes);
}

static struct prefill_product big_product(int kind, int epilogue, int packed_rows, int cols)
{
    int unit = packed_unit_cols(kind);
    struct packed w = {.kind = kind, .rows = epilogue == EPI_GATE ? packed_rows / 2 : packed_rows, .cols = cols, .tiles = packed_rows / 16, .units = cols / unit, .unit_bytes = packed_unit_bytes(kind)};
    w.data = kind < PACKED_Q8 ? random_device(packed_bytes(&w), 0.03f) : random_codes(packed_bytes(&w), kind);
    return (struct prefill_product){.w = w, .epilogue = epilogue, .n = ROWS, .stride = ROWS, .clusters = clusters};
}

static struct layer13 make_layer13(int kind)
{
    struct layer13 y = {.qkv = big_product(kind, EPI_HEADS, 3 * HIDDEN, HIDDEN), .o = big_product(kind, EPI_ADD, HIDDEN, HIDDEN), .gate = big_product(kind, EPI_GATE, 2 * FFN, HIDDEN),
                        .down = big_product(kind, EPI_ADD, HIDDEN, FFN)};
    struct kv_shape kv = {.n_layers = 1, .n_kv_heads = HEADS, .n_heads = HEADS, .head_dim = DIM, .head_pad = DIM, .pages_per_seq = ROWS / 256, .page_bytes = (size_t)HEADS * 2 * 256 * DIM * 2};
    int32_t table[ROWS / 256];
    for (int i = 0; i < ROWS / 256; i++)
        table[i] = i;
    kv.pages = random_device(kv.page_bytes * (ROWS / 256), 1);
    kv.table = up(table, sizeof table);
    void *x = random_device((size_t)ROWS * HIDDEN * 2, 1), *q = random_device((size_t)ROWS * HIDDEN * 2, 1), *heads = random_device((size_t)ROWS * HIDDEN * 2, 1);
    void *ffn = random_device((size_t)ROWS * FFN * 2, 1);
    float *state = random_device((size_t)ROWS * HIDDEN * 4, 1), *angle = malloc((size_t)ROWS * DIM * 4), *one = malloc(HIDDEN * 4);
    for (int i = 0; i < ROWS * DIM; i++)
        angle[i] = one[i % HIDDEN] = 0.7f;
    y.qkv.x = y.gate.x = x, y.qkv.kv = kv, y.qkv.q = q, y.o.x = heads, y.down.x = y.gate.x_out = ffn;
    y.qkv.angle = up(angle, (size_t)ROWS * DIM * 4);
    y.o.state = y.down.state = state, y.o.state_stride = y.down.state_stride = HIDDEN;
    y.attend = (struct prefill_attend){.n = ROWS, .stride = ROWS, .kv = kv, .q = q, .scale = 0.088388f, .x_out = heads};
    y.norm = (struct prefill_norm){.n = ROWS, .stride = ROWS, .hidden = HIDDEN, .state_stride = HIDDEN, .eps = 1e-5f, .state = state, .weight = up(one, HIDDEN * 4), .x = x};
    free(angle), free(one);
    return y;
}

static void free_layer13(struct layer13 *y)
{
    drop(y->qkv.w.data, y->o.w.data, y->gate.w.data, y->down.w.data);
    drop(y->qkv.x, y->qkv.q, y->o.x, y->gate.x_out);
    drop(y->o.state, y->qkv.angle, y->qkv.kv.pages, y->qkv.kv.table);
    drop(y->norm.weight, NULL, NULL, NULL);
}

/* One kernel (0..5: q k v, o, gate and up, down, attention, norm) or all of a layer (6). */
static void launch13(const struct layer13 *y, int what, cudaStream_t stream)
{
    static const int order[7] = {5, 0, 4, 1, 5, 2, 3};
    const struct prefill_product *const product[4] = {&y->qkv, &y->o, &y->gate, &y->down};
    const struct launch l = {.stream = stream, .chain = true};
    for (int i = what < 6 ? 6 : 0; i < 7; i++) {
        int k = what < 6 ? what : order[i];
        GPU(k == 5 ? prefill_norm(l, &y->norm) : k == 4 ? prefill_attend(l, &y->attend) : prefill_product(l, product[k]));
    }
}

static double time13(const struct layer13 *y, int what, cudaStream_t stream, int times)
{
    static cudaEvent_t from, to;
    float ms;
    if (!from) {
        GPU(cudaEventCreate(&from));
        GPU(cudaEventCreate(&to));
    }
    for (int i = 0; i < 3; i++)
        launch13(y, what, stream);
    GPU(cudaEventRecord(from, stream));
    for (int i = 0; i < times; i++)
        launch13(y, what, stream);
    GPU(cudaEventRecord(to, stream));
    GPU(cudaEventSynchronize(to));
    GPU(cudaEventElapsedTime(&ms, from, to));
    return ms / 1000.0 / times;
}

static void speed(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double flops;
    } part[7] = {{"q k v", 2.0 * ROWS * HIDDEN * 3 * HIDDEN}, {"o", 2.0 * ROWS * HIDDEN * HIDDEN}, {"gate, up", 2.0 * ROWS * HIDDEN * 2 * FFN}, {"down", 2.0 * ROWS * FFN * HIDDEN},
                 {"attention", 2.0 * ROWS * ROWS * HIDDEN}, {"norm", 0}, {"layer", 2.0 * ROWS * (4.0 * HIDDEN * HIDDEN + 3.0 * HIDDEN * FFN) + 2.0 * ROWS * ROWS * HIDDEN}};
    static const int kinds[] = {PACKED_BF16, PACKED_Q8, PACKED_Q4_0};
    static const char *const names[] = {"bf16", "q8", "q4_0"};
    cudaStream_t stream;
    GPU(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int k = 0; k < 3; k++) {
        struct layer13 y = make_layer13(kinds[k]);
        fprintf(stderr, "13B shape, %d rows, %s weights, %d clusters\n", ROWS, names[k], clusters);
        for (int i = 0; i < 7; i++) {
            double s = time13(&y, i, stream, i == 6 ? LAYERS : 10);
            fprintf(stderr, "  %-10s %8.1f us %7.1f TFLOP/s", part[i].name, s * 1e6, part[i].flops / s / 1e12);
            if (i == 6)
                fprintf(stderr, "  -> %.0f tokens/s with %d layers; %.1f %% of 798 TFLOP/s", ROWS / (s * LAYERS), LAYERS, part[i].flops / s / 798e10);
            fprintf(stderr, "\n");
        }
        free_layer13(&y);
    }
    GPU(cudaStreamDestroy(stream));
}

int main(void)
{
    struct cudaDeviceProp prop;
    if (cudaGetDeviceProperties(&prop, 0) != cudaSuccess || prop.major != 9) {
        fprintf(stderr, "skipped: no GPU of compute capability 9.0\n");
        return 77;
    }
    alarm(120);
    GPU(prefill_prepare(&clusters));
    GPU(prefill_attend_prepare());
    const struct CMUnitTest tests[] = {cmocka_unit_test(speed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
