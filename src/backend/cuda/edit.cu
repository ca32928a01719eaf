/* SPDX-License-Identifier: Apache-2.0 */
/* Logits as requests change them (pick_edit and masks): a block has some places of a row, first all of them by the mask, then those among its edits, then their tiles' maxima. */
#include "backend/cuda/device.cuh"

enum { THREADS = 256, PLACES = 4096, TILE = 16 };

/* Where a token's logit lies; -1: nowhere. */
static __device__ __forceinline__ int place_of(const struct edit_rows &e, int token)
{
    int lo = 0, hi = e.vocab;
    if (!e.ids)
        return token;
    while (lo < hi) {
        const int middle = (lo + hi) / 2;
        if (e.ids[middle] < token)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo < e.vocab && e.ids[lo] == token ? lo : -1;
}

static __global__ void __launch_bounds__(THREADS) edit_places(const __grid_constant__ struct edit_rows e)
{
    const int row = blockIdx.y, from = blockIdx.x * PLACES, to = from + PLACES < e.vocab ? from + PLACES : e.vocab, tiles = (e.vocab + TILE - 1) / TILE;
    const float *in = e.logits + (size_t)row * (size_t)e.stride;
    float *out = e.edited + (size_t)row * (size_t)e.stride;
    pdl_go();
    pdl_wait();
    if (row >= e.step->n)
        return;
    const struct step_ask *a = &e.step->ask[row];
    const uint32_t *allow = a->masked ? e.allow + (size_t)row * (size_t)e.words : NULL;
    for (int i = from + (int)threadIdx.x; i < to; i += THREADS)
        out[i] = pick_allows(allow, e.ids ? e.ids[i] : i) ? in[i] : PICK_OUT;
    __syncthreads();
    for (int k = (int)threadIdx.x; k < a->n_edits; k += THREADS) {
        const struct edit x = e.edits[a->first_edit + k];
        const int at = place_of(e, x.token);
        if (at >= from && at < to && pick_allows(allow, x.token))
            out[at] = pick_edit(&x, in[at]);
    }
    __syncthreads();
    for (int tile = from / TILE + (int)threadIdx.x; tile * TILE < to; tile += THREADS) {
        float most = -INFINITY;
        for (int i = tile * TILE; i < tile * TILE + TILE && i < to; i++)
            most = fmaxf(most, out[i]);
        e.tile_max[(size_t)row * (size_t)tiles + (size_t)tile] = most;
    }
}

extern "C" cudaError_t cuda_edit(struct launch l, const struct edit_rows *e)
{
    void *args[] = {(void *)e};
    return launch_kernel(l, (const void *)edit_places, dim3((unsigned)((e->vocab + PLACES - 1) / PLACES), (unsigned)e->bucket), dim3(THREADS), 0, args);
}
