/* SPDX-License-Identifier: Apache-2.0 */
/* Final norm, head and the choice rule. Each thread owns a slice of the vocabulary: it computes those logits and looks at no others.
   For drafts the vocabulary is the list of draft tokens: it ascends, so that places in it are in the order of ids, and only noise and results need the ids themselves. */
#include <string.h>

#include "backend/cpu/cpu.h"

struct choice {
    struct kv *kv;
    const struct row *rows;
    const struct ask *asks; /* NULL: only logits are wanted */
    int n;
    const struct matrix *head;
    const int32_t *ids;     /* [head->rows] the tokens that the head's rows stand for; NULL: row i for token i */
    struct search search[PICK_ROWS];
    struct cut cut[PICK_ROWS];
    struct pick *picks;
};

struct slice {
    struct choice *c;
    struct kv *kv;
    const struct device *d;
    int w, nw, from, to; /* rows of the head [from, to) */
};

static struct pick_part *part_of(const struct slice *s, int worker, int r) { return &s->kv->part[worker * PICK_ROWS + r]; }

static float *logits_of(const struct kv *kv, int r) { return kv->logits + (size_t)r * (size_t)pad16(kv->d->c->vocab); }

static float *edited_of(const struct kv *kv, int r) { return kv->edited + (size_t)r * (size_t)pad16(kv->d->c->vocab); }

/* What is chosen from. */
static const float *choices_of(const struct slice *s, int r) { return pick_edited(&s->c->asks[r]) ? edited_of(s->kv, r) : logits_of(s->kv, r); }

static int32_t *list_of(const struct kv *kv, int r) { return kv->list + (size_t)r * (size_t)pad16(kv->d->c->vocab); }

/* The token of a row of the head. */
static int32_t token_of(const struct choice *c, int32_t i) { return c->ids ? c->ids[i] : i; }

static bool greedy(const struct ask *a) { return !(a->s->temperature > 0); }

/* The hidden state itself is left as it is: the row may go on to deeper layers. */
static void norm_rows(const struct slice *s)
{
    const struct device *d = s->d;
    int from, to;
    pool_share(s->c->n, s->w, s->nw, &from, &to);
    for (int r = from; r < to; r++) {
        float *x = s->kv->x + (size_t)r * (size_t)s->kv->x_stride;
        d->ops->norm(x, s->kv->hidden + (size_t)s->c->rows[r].h * (size_t)d->hidden_pad, d->norm, d->hidden_pad, d->c->hidden, (float)d->c->norm_eps);
        cpu_operand_row(s->kv, s->c->head, r, x);
    }
}

static struct scan join(struct scan a, struct scan b)
{
    bool finite = a.finite && b.finite;
    a = b.max > a.max ? b : a;
    a.finite = finite;
    return a;
}

/* All slices' scans joined: the largest logit, the lowest id that has it. */
static struct scan join_raw(const struct slice *s, int r)
{
    struct scan all = part_of(s, 0, r)->raw;
    for (int w = 1; w < s->nw; w++)
        all = join(all, part_of(s, w, r)->raw);
    return all;
}

/* finite: and there is something to choose. */
static struct scan join_scans(const struct slice *s, int r)
{
    struct scan all = part_of(s, 0, r)->scan;
    for (int w = 1; w < s->nw; w++)
        all = join(all, part_of(s, w, r)->scan);
    all.finite = all.finite && all.max > PICK_OUT;
    return all;
}

/* The steps of cut.h. Rows without a cut keep PICK_ALL. */
static bool has_cut(const struct slice *s, int r) { return !greedy(&s->c->asks[r]) && pick_filters(s->c->asks[r].s) && join_scans(s, r).finite; }

static void fill_bins(const struct slice *s)
{
    for (int r = 0; r < s->c->n; r++)
        if (has_cut(s, r))
            s->d->ops->bins(choices_of(s, r), s->from, s->to, s->c->asks[r].s, join_scans(s, r).max, &part_of(s, s->w, r)->bins);
}

static void search_bins(const struct slice *s)
{
    for (int r = s->w; r < s->c->n; r += s->nw) {
        s->c->cut[r] = PICK_ALL;
        if (!has_cut(s, r))
            continue;
        struct histogram *all = &part_of(s, 0, r)->bins;
        for (int w = 1; w < s->nw; w++)
            cut_join(all, &part_of(s, w, r)->bins);
        s->c->search[r] = cut_search(all, s->c->asks[r].s);
    }
}

static void list_tokens(const struct slice *s)
{
    for (int r = 0; r < s->c->n; r++)
        if (has_cut(s, r))
            part_of(s, s->w, r)->n_listed =
                s->d->ops->list(choices_of(s, r), s->from, s->to, s->c->asks[r].s, join_scans(s, r).max, &s->c->search[r], list_of(s->kv, r) + s->from);
}

/* Each slice's list begins where its tokens do: they are moved together. */
static void find_cuts(const struct slice *s)
{
    for (int r = s->w; r < s->c->n; r += s->nw) {
        int n = 0, from, to;
        if (!has_cut(s, r))
            continue;
        for (int w = 0; w < s->nw; w++) {
            pool_share(s->c->head->blocks, w, s->nw, &from, &to);
            memmove(list_of(s->kv, r) + n, list_of(s->kv, r) + from * 16, (size_t)part_of(s, w, r)->n_listed * sizeof(int32_t));
            n += part_of(s, w, r)->n_listed;
        }
        s->c->cut[r] = cut_find(&s->c->search[r], choices_of(s, r), list_of(s->kv, r), n, join_scans(s, r).max, s->c->asks[r].s);
    }
}

static void cut_rows(const struct slice *s)
{
    static void (*const step[])(const struct slice *) = {fill_bins, search_bins, list_tokens, find_cuts};
    for (size_t i = 0; i < sizeof step / sizeof *step; i++) {
        step[i](s);
        pool_barrier(s->d->pool);
    }
}

static void add_noise(const struct slice *s, int r)
{
    const struct sampling *a = s->c->asks[r].s;
    struct scan top = join_scans(s, r);
    int32_t position = s->c->rows[r].pos + 1; /* of the token that is being chosen */
    if (!top.finite)
        return;
    struct best b = {-INFINITY, -1};
    float x = top.max / a->temperature;
    if (pick_keeps(s->c->cut[r], x, top.id)) /* of several logits that division makes equal, a cut may keep only the first */
        b = (struct best){(double)x + pick_gumbel(pick_noise_of(a, position, token_of(s->c, top.id))), top.id};
    part_of(s, s->w, r)->best = s->d->ops->noisy(choices_of(s, r), s->from, s->to, s->c->ids, a, position, top.max, s->c->cut[r], b);
}

/* The parts' lists as one; lower parts have the lower ids. */
static void join_tops(const struct slice *s, int r, float max, uint64_t mass, struct pick *p)
{
    for (int w = 0; w < s->nw; w++)
        for (int i = 0; i < part_of(s, w, r)->n_top; i++)
            p->n_top = pick_insert(p->top, p->n_top, s->c->asks[r].n_top, part_of(s, w, r)->top[i]);
    for (int i = 0; i < p->n_top; i++)
        p->top[i] = (struct candidate){token_of(s->c, p->top[i].token), pick_logprob(p->top[i].logprob, max, mass)};
}

static void conclude(const struct slice *s, int r)
{
    struct scan raw = join_raw(s, r), top = join_scans(s, r);
    struct pick *p = &s->c->picks[r];
    *p = (struct pick){.token = raw.finite ? PICK_NONE : PICK_ODD};
    if (!raw.finite || !top.finite)
        return;
    uint64_t raw_mass = 0, mass = 0;
    struct best b = part_of(s, 0, r)->best;
    for (int w = 0; w < s->nw; w++) {
        const struct pick_part *part = part_of(s, w, r);
        raw_mass += part->raw_mass;
        mass += part->mass;
        if (part->best.key > b.key || (part->best.key == b.key && part->best.id < b.id))
            b = part->best;
    }
    int32_t i = greedy(&s->c->asks[r]) ? top.id : b.id;
    p->token = token_of(s->c, i);
    p->logprob = pick_logprob(logits_of(s->kv, r)[i], raw.max, raw_mass);
    p->conf = pick_exp(pick_logprob(choices_of(s, r)[i], top.max, mass));
    join_tops(s, r, raw.max, raw_mass, p);
}

/* Where a token stands in the row: nowhere (-1) where drafts are not chosen among it. */
static int32_t place_of(const struct choice *c, int32_t token)
{
    int lo = 0, hi = c->head->rows;
    if (!c->ids)
        return token;
    while (lo < hi) {
        int middle = lo + (hi - lo) / 2;
        if (c->ids[middle] < token)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo < c->head->rows && c->ids[lo] == token ? lo : -1;
}

/* The slice as the request changes it. */
static void edit_slice(const struct slice *s, int r)
{
    const struct ask *a = &s->c->asks[r];
    const float *from = logits_of(s->kv, r);
    float *to = edited_of(s->kv, r);
    for (int32_t i = s->from; i < s->to; i++)
        to[i] = pick_allows(a->allow, token_of(s->c, i)) ? from[i] : PICK_OUT;
    for (int i = 0; i < a->n_edits; i++) {
        int32_t at = place_of(s->c, a->edits[i].token);
        if (at >= s->from && at < s->to && pick_allows(a->allow, a->edits[i].token))
            to[at] = pick_edit(&a->edits[i], from[at]);
    }
}

/* A step apart, behind a barrier of its own, since all threads look at all parts. */
static void edit_rows(const struct slice *s)
{
    for (int r = 0; r < s->c->n; r++)
        if (pick_edited(&s->c->asks[r])) {
            edit_slice(s, r);
            part_of(s, s->w, r)->scan = s->d->ops->scan(choices_of(s, r), s->from, s->to);
        }
    pool_barrier(s->d->pool);
    for (int r = 0; r < s->c->n; r++)
        if (pick_edited(&s->c->asks[r]))
            part_of(s, s->w, r)->mass = s->d->ops->mass(choices_of(s, r), s->from, s->to, join_scans(s, r).max);
}

static void choose(const struct slice *s)
{
    bool sampled = false, edited = false;
    for (int r = 0; r < s->c->n; r++) {
        struct pick_part *part = part_of(s, s->w, r);
        part->raw = part->scan = s->d->ops->scan(logits_of(s->kv, r), s->from, s->to);
        part->n_top = s->d->ops->top(logits_of(s->kv, r), s->from, s->to, s->c->asks[r].n_top, part->top);
        sampled |= !greedy(&s->c->asks[r]);
        edited |= pick_edited(&s->c->asks[r]);
    }
    pool_barrier(s->d->pool);
    for (int r = 0; r < s->c->n; r++) {
        struct pick_part *part = part_of(s, s->w, r);
        part->raw_mass = part->mass = s->d->ops->mass(logits_of(s->kv, r), s->from, s->to, join_raw(s, r).max);
    }
    if (edited)
        edit_rows(s);
    if (sampled) {
        cut_rows(s);
        for (int r = 0; r < s->c->n; r++)
            if (!greedy(&s->c->asks[r]))
                add_noise(s, r);
    }
    pool_barrier(s->d->pool);
    for (int r = s->w; r < s->c->n; r += s->nw)
        conclude(s, r);
}

static void head_job(void *arg, int worker, int n_workers)
{
    struct choice *c = arg;
    struct slice s = {.c = c, .kv = c->kv, .d = c->kv->d, .w = worker, .nw = n_workers};
    const struct matrix *head = c->head;
    int from, to;
    norm_rows(&s);
    pool_barrier(s.d->pool);
    pool_share(head->blocks, worker, n_workers, &from, &to);
    struct operand op = cpu_operand(c->kv, head, c->n);
    if (from < to)
        s.d->kernels->matmul(head, &op, from, to, c->kv->logits, (size_t)pad16(s.d->c->vocab));
    s.from = from * 16;
    s.to = to * 16 < head->rows ? to * 16 : head->rows;
    if (c->asks)
        choose(&s);
}

static int run_head(struct kv *kv, struct choice *c, struct error *err)
{
    for (int i = 0; i < c->n; i++)
        if (c->rows[i].h < 0 || c->rows[i].h >= kv->d->o.n_hidden)
            return fail(err, ERR_INTERNAL, "row %d of %d: h %d", i, c->n, c->rows[i].h);
    c->kv = kv;
    pool_run(kv->d->pool, head_job, c);
    kv->bytes_read += (uint64_t)c->head->blocks * c->head->block_bytes;
    return 0;
}

int cpu_pick(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct pick *picks, struct error *err)
{
    const struct device *d = kv->d;
    for (int at = 0, m; at < n; at += m) {
        bool few = asks[at].draft && d->o.n_draft_tokens;
        for (m = 1; m < PICK_ROWS && at + m < n && asks[at + m].draft == asks[at].draft;)
            m++;
        struct choice c = {.rows = rows + at, .asks = asks + at, .n = m, .head = few ? &d->draft_head : &d->head, .ids = few ? d->o.draft_token : NULL, .picks = picks + at};
        int rc = run_head(kv, &c, err);
        if (rc)
            return rc;
    }
    return 0;
}

int cpu_logits(struct kv *kv, const struct row *rows, int n, float *out, struct error *err)
{
    size_t vocab = (size_t)kv->d->c->vocab;
    for (int at = 0; at < n; at += PICK_ROWS) {
        struct choice c = {.rows = rows + at, .head = &kv->d->head, .n = n - at < PICK_ROWS ? n - at : PICK_ROWS};
        int rc = run_head(kv, &c, err);
        if (rc)
            return rc;
        for (int r = 0; r < c.n; r++)
            memcpy(out + (size_t)(at + r) * vocab, logits_of(kv, r), vocab * sizeof *out);
    }
    return 0;
}
