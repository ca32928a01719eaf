/* SPDX-License-Identifier: Apache-2.0 */
/* Attention and its gradient: one (sample, KV head) at a time in one thread, query heads and blocks of queries in order. Scores of a block are computed again on
   the way back; kept are only each row's maximum and sum. */
#include <math.h>
#include <string.h>

#include "backend/cpu/trainer.h"

/* ---- rotary ---- */

/* Angles as transformers has them: f32 frequency times f32 position, one rounding, then cosine and sine. */
void train_angles(struct trainer *t)
{
    int half = t->c->head_dim / 2;
    for (int pos = 0; pos < t->o.length; pos++)
        for (int j = 0; j < half; j++) {
            float a = (float)pos * t->inv_freq[j];
            t->cs[pos * half + j] = (float)cos((double)a);
            t->sn[pos * half + j] = (float)sin((double)a);
            t->sn_back[pos * half + j] = -t->sn[pos * half + j];
        }
}

struct rotation {
    const struct trainer *t;
    float *q, *k;
    const float *sn;
    int length;
};

static void rotate_row(void *ctx, int i, int worker)
{
    const struct rotation *r = ctx;
    const struct trainer *t = r->t;
    int hd = t->c->head_dim, at = i % r->length * (hd / 2);
    (void)worker;
    for (int h = 0; h < t->c->n_heads; h++)
        t->ops->rotate(r->q + (size_t)i * (size_t)t->q_pad + h * hd, t->cs + at, r->sn + at, hd);
    for (int h = 0; h < t->c->n_kv_heads; h++)
        t->ops->rotate(r->k + (size_t)i * (size_t)t->kv_pad + h * hd, t->cs + at, r->sn + at, hd);
}

void train_rotate(struct trainer *t, const struct train_batch *b, float *q, float *k, int samples, bool back)
{
    struct rotation r = {t, q, k, back ? t->sn_back : t->sn, b->length};
    pool_each(t->pool, samples * b->length, 16, rotate_row, &r);
}

/* ---- attention ---- */

struct attending {
    const struct train_pass *p;
    const struct layer_kept *k;
};

/* A block of queries of one head: which keys it may see, and where its numbers lie. */
struct block {
    const struct trainer *t;
    const int32_t *start; /* [length] of the sample, or NULL */
    int first, rows;      /* queries */
    int key, keys;        /* keys that some of them see */
    size_t q, kv, stat;   /* places of the first query, of the first key, of the first query's stat */
    float factor;
};

static struct block block_of(const struct attending *a, int sample, int head, int first)
{
    const struct trainer *t = a->p->t;
    int length = a->p->b->length, group = t->c->n_heads / t->c->n_kv_heads;
    struct block b = {.t = t, .first = first, .rows = length - first < QUERY_BLOCK ? length - first : QUERY_BLOCK, .factor = 1.0f / sqrtf((float)t->c->head_dim)};
    if (a->p->b->start) {
        b.start = a->p->b->start + (size_t)t->sample[sample] * (size_t)length;
        b.key = b.start[first];
        for (int i = 1; i < b.rows; i++)
            b.key = b.start[first + i] < b.key ? b.start[first + i] : b.key;
    }
    b.keys = first + b.rows - b.key;
    size_t row = (size_t)sample * (size_t)length;
    b.q = (row + (size_t)first) * (size_t)t->q_pad + (size_t)(head * t->c->head_dim);
    b.kv = (row + (size_t)b.key) * (size_t)t->kv_pad + (size_t)(head / group * t->c->head_dim);
    b.stat = ((row + (size_t)first) * (size_t)t->c->n_heads + (size_t)head) * 2;
    return b;
}

/* s [rows][keys] = x y^T for a row of queries' x and keys' y */
static void multiply_keys(const struct block *b, float *s, const float *x, const float *y)
{
    gemm_one(&b->t->gemm, &(struct product){.a = x + b->q, .b = y + b->kv, .c = s, .m = b->rows, .n = b->keys, .k = b->t->c->head_dim, .lda = b->t->q_pad, .ldb = b->t->kv_pad,
                                            .ldc = b->t->score_pad, .turn_b = true});
}

/* out [rows][head_dim] = s y */
static void mix_keys(const struct block *b, float *out, const float *s, const float *y)
{
    gemm_one(&b->t->gemm, &(struct product){.a = s, .b = y + b->kv, .c = out + b->q, .m = b->rows, .n = b->t->c->head_dim, .k = b->keys, .lda = b->t->score_pad, .ldb = b->t->kv_pad,
                                            .ldc = b->t->q_pad});
}

/* out [keys][head_dim] += s^T x */
static void mix_queries(const struct block *b, float *out, const float *s, const float *x)
{
    gemm_one(&b->t->gemm, &(struct product){.a = s, .b = x + b->q, .c = out + b->kv, .m = b->keys, .n = b->t->c->head_dim, .k = b->rows, .lda = b->t->score_pad, .ldb = b->t->q_pad,
                                            .ldc = b->t->kv_pad, .turn_a = true, .add = true});
}

/* Probabilities of a block from its scores; again: with the stats that the first time left. */
static void soften(const struct block *b, float *s, float *stats, bool again)
{
    for (int i = 0; i < b->rows; i++) {
        int at = b->first + i, from = (b->start ? b->start[at] : 0) - b->key, to = at + 1 - b->key, n = pad16(b->keys);
        float *row = s + (size_t)i * (size_t)b->t->score_pad, *stat = stats + b->stat + (size_t)i * (size_t)b->t->c->n_heads * 2;
        if (again)
            b->t->rows->attend_again(row, from, to, n, b->factor, stat);
        else
            b->t->rows->attend(row, from, to, n, b->factor, stat);
    }
}

static float *scores_of(const struct trainer *t, int worker) { return t->score + (size_t)worker * 2 * QUERY_BLOCK * (size_t)t->score_pad; }

static void attend(void *ctx, int i, int worker)
{
    const struct attending *a = ctx;
    const struct trainer *t = a->p->t;
    float *s = scores_of(t, worker);
    for (int first = 0; first < a->p->b->length; first += QUERY_BLOCK) {
        struct block b = block_of(a, i / t->c->n_heads, i % t->c->n_heads, first);
        multiply_keys(&b, s, a->k->q, a->k->k);
        soften(&b, s, a->k->stat, false);
        mix_keys(&b, a->k->att, s, a->k->v);
    }
}

void train_attend(const struct train_pass *p, const struct layer_kept *k, int samples)
{
    struct attending a = {p, k};
    pool_each(p->t->pool, samples * p->t->c->n_heads, 1, attend, &a);
}

/* ---- and back ---- */

static void attend_back_block(const struct attending *a, const struct block *b, float *s)
{
    const struct trainer *t = b->t;
    float *ds = s + (size_t)QUERY_BLOCK * (size_t)t->score_pad;
    multiply_keys(b, s, a->k->q, a->k->k);
    soften(b, s, a->k->stat, true);
    mix_queries(b, t->dv, s, t->datt);
    multiply_keys(b, ds, t->datt, a->k->v);
    for (int i = 0; i < b->rows; i++) {
        float *d = ds + (size_t)i * (size_t)t->score_pad;
        for (int j = b->keys; j < pad16(b->keys); j++)
            d[j] = 0;
        t->rows->attend_back(d, s + (size_t)i * (size_t)t->score_pad, pad16(b->keys), b->factor);
    }
    mix_keys(b, t->dq, ds, a->k->k);
    mix_queries(b, t->dk, ds, a->k->q);
}

static void clear_head(float *x, int rows, int pad, int head_dim)
{
    for (int r = 0; r < rows; r++)
        memset(x + (size_t)r * (size_t)pad, 0, (size_t)head_dim * sizeof *x);
}

static void attend_back(void *ctx, int i, int worker)
{
    const struct attending *a = ctx;
    const struct trainer *t = a->p->t;
    int sample = i / t->c->n_kv_heads, head = i % t->c->n_kv_heads, group = t->c->n_heads / t->c->n_kv_heads, length = a->p->b->length;
    size_t at = (size_t)sample * (size_t)length * (size_t)t->kv_pad + (size_t)(head * t->c->head_dim);
    clear_head(t->dk + at, length, t->kv_pad, t->c->head_dim);
    clear_head(t->dv + at, length, t->kv_pad, t->c->head_dim);
    for (int g = head * group; g < (head + 1) * group; g++)
        for (int first = 0; first < length; first += QUERY_BLOCK) {
            struct block b = block_of(a, sample, g, first);
            attend_back_block(a, &b, scores_of(t, worker));
        }
}

void train_attend_back(const struct train_pass *p, const struct layer_kept *k, int samples)
{
    struct attending a = {p, k};
    pool_each(p->t->pool, samples * p->t->c->n_kv_heads, 1, attend_back, &a);
}
