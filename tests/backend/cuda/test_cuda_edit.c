/* SPDX-License-Identifier: Apache-2.0 */
/* Edited logits on the device against pick_edit on the host, bit for bit: rows with edits, masks, both and neither, with and without a list of tokens. */
#include "gpu.h"

#include "backend/cuda/kernels.h"

enum { ROWS = 7, VOCAB = 10007, STRIDE = 10016, TILES = STRIDE / 16, WORDS = STRIDE / 32, EDITS = 300 };

struct problem {
    float logits[ROWS][STRIDE];
    int32_t ids[VOCAB];
    struct edit edits[ROWS * EDITS];
    uint32_t allow[ROWS][WORDS];
    struct step step;
};

static struct problem p;

static void fill(bool listed, uint64_t *seed)
{
    p.step.n = ROWS - 1; /* the last row of the bucket is not there */
    for (int i = 0; i < VOCAB; i++)
        p.ids[i] = listed ? i + i / 100 : i; /* in place of i; some tokens are not in the list */
    for (int r = 0, at = 0; r < ROWS; r++) {
        for (int i = 0; i < STRIDE; i++)
            p.logits[r][i] = 3 * gpu_normal(seed);
        for (int w = 0; w < WORDS; w++)
            p.allow[r][w] = (uint32_t)gpu_random(seed);
        p.step.ask[r] = (struct step_ask){.first_edit = at, .n_edits = r % 3 ? EDITS : 0, .masked = r % 2};
        for (int i = 0; i < p.step.ask[r].n_edits; i++)
            p.edits[at++] = (struct edit){33 * i + r, i % 7 ? gpu_normal(seed) : -INFINITY, i % 2 ? 1.3f : 1, i % 3 ? gpu_normal(seed) : 0};
    }
}

static float wanted(int r, int i, const int32_t *ids)
{
    const struct step_ask *a = &p.step.ask[r];
    int32_t token = ids ? ids[i] : i;
    if (a->masked && !(p.allow[r][token / 32] >> token % 32 & 1))
        return PICK_OUT;
    for (int k = 0; k < a->n_edits; k++)
        if (p.edits[a->first_edit + k].token == token)
            return pick_edit(&p.edits[a->first_edit + k], p.logits[r][i]);
    return p.logits[r][i];
}

static void check(bool listed, struct problem *d, float *edited, float *tile_max, int vocab)
{
    static float got[ROWS][STRIDE], tiles[ROWS * TILES];
    const int32_t *ids = listed ? p.ids : NULL;
    struct edit_rows e = {.step = &d->step, .bucket = ROWS, .logits = &d->logits[0][0], .edited = edited, .stride = STRIDE, .vocab = vocab, .ids = listed ? d->ids : NULL,
                          .edits = d->edits, .allow = &d->allow[0][0], .words = WORDS, .tile_max = tile_max};
    GPU(cudaMemcpy(d, &p, sizeof p, cudaMemcpyHostToDevice));
    GPU(cudaMemset(edited, 0xff, sizeof got));
    GPU(cuda_edit((struct launch){0}, &e));
    GPU(cudaDeviceSynchronize());
    gpu_read(got, edited, sizeof got);
    gpu_read(tiles, tile_max, sizeof tiles);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < STRIDE; i++) {
            float want = wanted(r, i < vocab ? i : 0, ids);
            uint32_t bits;
            memcpy(&bits, &got[r][i], sizeof bits);
            if (r == ROWS - 1 || i >= vocab)
                assert_int_equal(bits, UINT32_MAX); /* nobody writes there */
            else
                assert_memory_equal(&got[r][i], &want, sizeof want);
        }
    for (int r = 0; r < ROWS - 1; r++)
        for (int t = 0; t < (vocab + 15) / 16; t++) {
            float most = -INFINITY;
            for (int i = 16 * t; i < 16 * t + 16 && i < vocab; i++)
                most = fmaxf(most, got[r][i]);
            assert_true(tiles[r * ((vocab + 15) / 16) + t] == most);
        }
}

static void logits_are_edited_as_on_the_host(void **state)
{
    (void)state;
    struct problem *d = gpu_take(sizeof p);
    float *edited = gpu_take(sizeof p.logits), *tile_max = gpu_take(sizeof(float[ROWS * TILES]));
    uint64_t seed = 3;
    for (int k = 0; k < 4; k++) {
        fill(k % 2, &seed);
        check(k % 2, d, edited, tile_max, k < 2 ? 9001 : 4096);
    }
    GPU(cudaFree(d));
    GPU(cudaFree(edited));
    GPU(cudaFree(tile_max));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_are_edited_as_on_the_host)};
    gpu_or_skip();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
