/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over paged keys and values: against sums in double; a row's bits, whatever shares the pass; scattered slots against the same text in order; NaN where
   nobody looks. Then its speed. */
#include "gpu.h"

#include "backend/cuda/cuda.h"

enum { SEQS = 10, PAGES_PER_SEQ = 13, LAYERS = 2, LAYER = 1 };

struct shape {
    int heads, kv_heads, dim, f32, x_f32;
};

/* A row and what it must see: the text by identity (K, V and q are functions of it), in order of position. */
struct node {
    struct step_row row;
    uint64_t text[64]; /* of its positions from prefix on; below, it is the position in text `base` */
    int base;
};

struct world {
    struct shape s;
    int pad, bytes;        /* head_pad; of an element */
    int n_pages;
    size_t page_bytes;
    int32_t *table;        /* [SEQS][PAGES_PER_SEQ], -1: none */
    uint8_t *pages, *d_pages;
    int32_t *d_table;
    struct node node[STEP_ROWS];
    int n;
    int max_chunks, x_units;
    struct step *step, *d_step;
    float *q, *d_q, *d_part;
    uint8_t *x, *d_x;
    size_t x_bytes, part_bytes; /* of bucket 64 */
    uint8_t *alone;        /* [n][columns] f32 bits of each row by itself */
};

/* ---- text ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t s = a * 0x9e3779b97f4a7c15u + b;
    gpu_random(&s);
    return gpu_random(&s);
}

static uint64_t text_at(int base, int pos) { return (uint64_t)base << 32 | (uint64_t)pos; }

/* which: 0 K, 1 V, 2 q (head: of all heads). */
static float value(uint64_t text, int which, int head, int d)
{
    uint64_t s = mix(text, (uint64_t)(which << 20 | head << 10 | d));
    return gpu_normal(&s) * (which == 2 ? 2.0f : 1.0f);
}

static uint16_t to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t b)
{
    uint32_t u = (uint32_t)b << 16;
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static uint8_t *slot_bytes(const struct world *w, int seq, int slot, int head, int which)
{
    int page = w->table[seq * PAGES_PER_SEQ + slot / PAGE_SLOTS];
    size_t row = (size_t)w->pad * (size_t)w->bytes;
    return w->pages + (size_t)page * w->page_bytes + (((size_t)LAYER * (size_t)w->s.kv_heads + (size_t)head) * 2 + (size_t)which) * PAGE_SLOTS * row + (size_t)(slot % PAGE_SLOTS) * row;
}

static void put(struct world *w, int seq, int slot, uint64_t text)
{
    for (int head = 0; head < w->s.kv_heads; head++)
        for (int which = 0; which < 2; which++) {
            uint8_t *to = slot_bytes(w, seq, slot, head, which);
            memset(to, 0, (size_t)w->pad * (size_t)w->bytes);
            for (int d = 0; d < w->s.dim; d++) {
                float x = value(text, which, head, d);
                if (w->s.f32)
                    ((float *)to)[d] = x;
                else
                    ((uint16_t *)to)[d] = to_bf16(x);
            }
        }
}

static float element(const struct world *w, const uint8_t *row, int d) { return w->s.f32 ? ((const float *)row)[d] : from_bf16(((const uint16_t *)row)[d]); }

/* ---- rows ---- */

static int slot_of(const struct node *n, int pos)
{
    const struct step_row *r = &n->row;
    if (pos < r->prefix || pos == r->pos)
        return pos == r->pos ? r->slot : pos;
    uint64_t left = r->also;
    for (int i = pos - r->prefix; i > 0; i--)
        left &= left - 1;
    return r->prefix + __builtin_ctzll(left);
}

static struct node *add(struct world *w, int seq, int slot, int prefix, uint64_t also, int base)
{
    struct node *n = &w->node[w->n++];
    *n = (struct node){.base = base};
    int pos = prefix + __builtin_popcountll(also);
    n->row = (struct step_row){.token = 1, .pos = pos, .seq = seq, .slot = slot, .prefix = prefix, .also = also, .h = w->n};
    n->row.page = w->table[seq * PAGES_PER_SEQ + slot / PAGE_SLOTS];
    n->row.at = slot % PAGE_SLOTS;
    n->row.straight = slot == pos && (also & (also + 1)) == 0;
    return n;
}

static void commit(struct world *w, int seq, int from, int to, int base)
{
    for (int p = from; p < to; p++)
        put(w, seq, p, text_at(base, p));
}

static struct node *add_straight(struct world *w, int seq, int pos, int base)
{
    struct node *n = add(w, seq, pos, pos, 0, base);
    n->text[0] = text_at(base, pos);
    return n;
}

/* n nodes behind prefix; a node's parent is a recent one or any. gap: leaves' own slots lie that far behind. */
static void add_tree(struct world *w, int seq, int prefix, int n, int base, int gap, uint64_t *seed)
{
    commit(w, seq, 0, prefix, base);
    int first = w->n;
    for (int i = 0; i < n; i++) {
        int parent = i == 0 ? -1 : gpu_random(seed) % 3 ? i - 1 : (int)(gpu_random(seed) % (uint64_t)i), leaf = gap && i >= n - 3;
        parent = parent >= n - 3 && gap ? n - 4 : parent;
        struct node *p = parent < 0 ? NULL : &w->node[first + parent];
        struct node *m = add(w, seq, prefix + i + (leaf ? gap : 0), prefix, p ? p->row.also | 1ull << parent : 0, base);
        int depth = m->row.pos - prefix;
        if (p)
            memcpy(m->text, p->text, sizeof m->text);
        m->text[depth] = text_at(1000 + base, i);
        put(w, seq, m->row.slot, m->text[depth]);
    }
}

/* The text of a node, committed in a timeline of its own. */
static void add_twin(struct world *w, int seq, const struct node *of)
{
    commit(w, seq, 0, of->row.prefix, of->base);
    for (int p = of->row.prefix; p <= of->row.pos; p++)
        put(w, seq, p, of->text[p - of->row.prefix]);
    struct node *n = add(w, seq, of->row.pos, of->row.pos, 0, of->base);
    n->text[0] = of->text[of->row.pos - of->row.prefix];
}

static const int singles[] = {0, 1, 62, 63, 64, 65, 255, 256, 257, 511, 512, 513, 2047, 2048, 2049, 3000};
enum { TREE_A = 0, TREE_B = 20, TWINS = 34, SINGLES = 38, LINE = 54 };
static const int twin_of[] = {7, 19, TREE_B + 5, TREE_B + 13};

static void fill_world(struct world *w)
{
    uint64_t seed = 99;
    add_tree(w, 0, 2040, 20, 1, 0, &seed);  /* crosses 2048, where chunks become wide */
    add_tree(w, 1, 250, 14, 2, 75, &seed);  /* crosses a page; leaves' slots are beyond the reach of `also` */
    for (int i = 0; i < 4; i++)
        add_twin(w, 2 + i, &w->node[twin_of[i]]);
    commit(w, 6, 0, 3001, 3);
    for (size_t i = 0; i < sizeof singles / sizeof *singles; i++)
        add_straight(w, 6, singles[i], 3);
    commit(w, 7, 0, 520, 4);
    for (int p = 508; p < 516; p++)
        add_straight(w, 7, p, 4);
    commit(w, 8, 0, 1, 5);
    add_straight(w, 8, 0, 5);
    commit(w, 9, 0, 301, 6);
    add_straight(w, 9, 300, 6);
}

/* ---- a world on the device ---- */

static const int lengths[SEQS] = {2060, 340, 2060, 2061, 300, 300, 3001, 520, 1, 301};

static void make_table(struct world *w)
{
    uint64_t seed = 5;
    int order[SEQS * PAGES_PER_SEQ];
    w->n_pages = 0;
    for (int s = 0; s < SEQS; s++)
        w->n_pages += (lengths[s] + PAGE_SLOTS - 1) / PAGE_SLOTS;
    for (int i = 0; i < w->n_pages; i++) {
        int j = (int)(gpu_random(&seed) % (uint64_t)(i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    int next = 0;
    for (int s = 0; s < SEQS; s++)
        for (int p = 0; p < PAGES_PER_SEQ; p++)
            w->table[s * PAGES_PER_SEQ + p] = p * PAGE_SLOTS < lengths[s] ? order[next++] : -1;
}

static void *host(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p)
        exit(1);
    return p;
}

static struct world *open_world(struct shape s)
{
    struct world *w = calloc(1, sizeof *w);
    w->s = s;
    w->pad = (s.dim + 7) / 8 * 8;
    w->bytes = s.f32 ? 4 : 2;
    w->page_bytes = (size_t)LAYERS * (size_t)s.kv_heads * 2 * PAGE_SLOTS * (size_t)w->pad * (size_t)w->bytes;
    w->table = host(sizeof(int32_t) * SEQS * PAGES_PER_SEQ);
    make_table(w);
    size_t all = w->page_bytes * (size_t)w->n_pages;
    w->pages = host(all);
    memset(w->pages, 0xff, all); /* NaN wherever nobody wrote */
    fill_world(w);
    w->max_chunks = chunk_of(PAGES_PER_SEQ * PAGE_SLOTS - 1) + 1;
    w->x_units = (s.heads * s.dim + 127) / 128 * 4;
    w->x_bytes = (size_t)w->x_units * 64 * 32 * 4;
    w->part_bytes = (size_t)STEP_ROWS * (size_t)s.heads * (size_t)w->max_chunks * (size_t)(w->pad + 2) * 4;
    w->step = host(sizeof *w->step);
    w->q = host((size_t)STEP_ROWS * (size_t)s.heads * (size_t)w->pad * 4);
    w->x = host(w->x_bytes);
    w->alone = host((size_t)w->n * (size_t)w->x_units * 128);
    w->d_pages = gpu_copy(w->pages, all);
    w->d_table = gpu_copy(w->table, sizeof(int32_t) * SEQS * PAGES_PER_SEQ);
    w->d_step = gpu_take(sizeof *w->d_step);
    w->d_q = gpu_take((size_t)STEP_ROWS * (size_t)s.heads * (size_t)w->pad * 4);
    w->d_part = gpu_take(w->part_bytes);
    w->d_x = gpu_take(w->x_bytes);
    return w;
}

static void close_world(struct world *w)
{
    void *on_device[] = {w->d_pages, w->d_table, w->d_step, w->d_q, w->d_part, w->d_x};
    for (size_t i = 0; i < sizeof on_device / sizeof *on_device; i++)
        GPU(cudaFree(on_device[i]));
    free(w->table), free(w->pages), free(w->step), free(w->q), free(w->x), free(w->alone), free(w);
}

/* Attention of nodes which[0 .. n), in that order; the result to w->x. */
static void run(struct world *w, const int *which, int n, int bucket)
{
    const struct shape *s = &w->s;
    size_t line = (size_t)s->heads * (size_t)w->pad, q_bytes = line * 4 * (size_t)STEP_ROWS;
    memset(w->step, 0xff, sizeof *w->step);
    memset(w->q, 0xff, q_bytes);
    w->step->n = n;
    for (int i = 0; i < n; i++) {
        const struct node *m = &w->node[which[i]];
        w->step->row[i] = m->row;
        for (int h = 0; h < s->heads; h++)
            for (int d = 0; d < s->dim; d++)
                w->q[(size_t)i * line + (size_t)(h * w->pad + d)] = value(m->text[m->row.pos - m->row.prefix], 2, h, d);
    }
    cuda_group_rows(w->step);
    GPU(cudaMemcpy(w->d_step, w->step, sizeof *w->step, cudaMemcpyHostToDevice));
    GPU(cudaMemcpy(w->d_q, w->q, q_bytes, cudaMemcpyHostToDevice));
    GPU(cudaMemset(w->d_part, 0xff, w->part_bytes));
    GPU(cudaMemset(w->d_x, 0xff, w->x_bytes));
    struct kv_shape kv = {.pages = w->d_pages, .table = w->d_table, .page_bytes = w->page_bytes, .n_layers = LAYERS, .n_kv_heads = s->kv_heads, .n_heads = s->heads, .head_dim = s->dim,
                          .head_pad = w->pad, .pages_per_seq = PAGES_PER_SEQ, .f32 = s->f32};
    struct attend a = {.step = w->d_step, .bucket = bucket, .rows = bucket, .layer = LAYER, .kv = kv, .q = w->d_q, .scale = 1.0f / sqrtf((float)s->dim), .part = w->d_part, .max_chunks = w->max_chunks,
                       .x_out = w->d_x, .x_units = w->x_units, .x_f32 = s->x_f32};
    GPU(cuda_attend((struct launch){0}, &a));
    GPU(cudaDeviceSynchronize());
    gpu_read(w->x, w->d_x, w->x_bytes);
}

/* Bits of one column of row i. */
static uint32_t bits_of(const struct world *w, int bucket, int i, int col)
{
    size_t at = ((size_t)(col / 32) * (size_t)bucket + (size_t)i) * 32 + (size_t)(col % 32);
    return w->s.x_f32 ? ((const uint32_t *)w->x)[at] : ((const uint16_t *)w->x)[at];
}

static float float_of(const struct world *w, uint32_t bits)
{
    float x;
    bits = w->s.x_f32 ? bits : bits << 16;
    memcpy(&x, &bits, 4);
    return x;
}

static const char *name_of(const struct world *w)
{
    static char name[100];
    snprintf(name, sizeof name, "%d/%d heads of %d, %s, x %s", w->s.heads, w->s.kv_heads, w->s.dim, w->s.f32 ? "f32" : "bf16", w->s.x_f32 ? "f32" : "bf16");
    return name;
}

/* ---- checks; each returns the number of faults ---- */

static void reference(const struct world *w, const struct node *n, int head, double *out)
{
    int kv_head = head / (w->s.heads / w->s.kv_heads), count = n->row.pos + 1;
    double *p = host(sizeof *p * (size_t)count), maximum = -INFINITY, sum = 0;
    float *q = host(sizeof *q * (size_t)w->s.dim);
    for (int d = 0; d < w->s.dim; d++)
        q[d] = value(n->text[n->row.pos - n->row.prefix], 2, head, d);
    for (int i = 0; i < count; i++) {
        const uint8_t *k = slot_bytes(w, n->row.seq, slot_of(n, i), kv_head, 0);
        double dot = 0;
        for (int d = 0; d < w->s.dim; d++)
            dot += (double)q[d] * (double)element(w, k, d);
        p[i] = dot / sqrt(w->s.dim);
        maximum = p[i] > maximum ? p[i] : maximum;
    }
    for (int i = 0; i < count; i++)
        sum += p[i] = exp(p[i] - maximum);
    memset(out, 0, sizeof *out * (size_t)w->s.dim);
    for (int i = 0; i < count; i++) {
        const uint8_t *v = slot_bytes(w, n->row.seq, slot_of(n, i), kv_head, 1);
        for (int d = 0; d < w->s.dim; d++)
            out[d] += p[i] / sum * (double)element(w, v, d);
    }
    free(p);
    free(q);
}

/* Row `node` alone: near the sums in double. */
static int check_alone(struct world *w, int node)
{
    const struct node *n = &w->node[node];
    int faults = 0;
    double out[256], worst = 0;
    run(w, &node, 1, 8);
    for (int head = 0; head < w->s.heads; head++) {
        reference(w, n, head, out);
        for (int d = 0; d < w->s.dim; d++) {
            int col = head * w->s.dim + d;
            double got = (double)float_of(w, bits_of(w, 8, 0, col)), off = fabs(got - out[d]);
            worst = off > worst ? off : worst;
            if (!(off <= (w->s.f32 ? 1e-5 : 3e-5) + (w->s.x_f32 ? 0 : 0.004 * fabs(out[d]))) && faults++ < 4)
                fprintf(stderr, "%s: node %d (pos %d, prefix %d, slot %d, straight %d) head %d dim %d: got %.8g, want %.8g\n", name_of(w), node, n->row.pos, n->row.prefix, n->row.slot,
                        n->row.straight, head, d, got, out[d]);
        }
    }
    for (int col = 0; col < w->x_units * 32; col++)
        ((uint32_t *)w->alone)[node * w->x_units * 32 + col] = bits_of(w, 8, 0, col);
    return faults;
}

/* Rows as they are alone, zeros behind the heads, nothing behind the rows. */
static int check_bits(struct world *w, const int *which, int n, int bucket, const char *what)
{
    int faults = 0;
    for (int i = 0; i < bucket; i++)
        for (int col = 0; col < w->x_units * 32; col++) {
            uint32_t got = bits_of(w, bucket, i, col), want = w->s.x_f32 ? 0xffffffffu : 0xffffu;
            if (i < n)
                want = col < w->s.heads * w->s.dim ? ((const uint32_t *)w->alone)[which[i] * w->x_units * 32 + col] : 0;
            if (got != want && faults++ < 4)
                fprintf(stderr, "%s: %s: %d rows, bucket %d: row %d (node %d, pos %d) column %d: got %08x, want %08x\n", name_of(w), what, n, bucket, i, i < n ? which[i] : -1,
                        i < n ? w->node[which[i]].row.pos : -1, col, got, want);
        }
    return faults;
}

static int check_twins(struct world *w)
{
    int faults = 0;
    const uint32_t *alone = (const uint32_t *)w->alone;
    for (int i = 0; i < 4; i++)
        for (int col = 0; col < w->s.heads * w->s.dim; col++) {
            uint32_t tree = alone[twin_of[i] * w->x_units * 32 + col], straight = alone[(TWINS + i) * w->x_units * 32 + col];
            if (tree != straight && faults++ < 4)
                fprintf(stderr, "%s: node %d and its twin in order differ in column %d: %08x, %08x\n", name_of(w), twin_of[i], col, tree, straight);
        }
    return faults;
}

static void shuffle(int *which, int n, uint64_t *seed)
{
    for (int i = n - 1; i > 0; i--) {
        int j = (int)(gpu_random(seed) % (uint64_t)(i + 1)), t = which[i];
        which[i] = which[j];
        which[j] = t;
    }
}

static int check_company(struct world *w)
{
    static const int counts[][2] = {{64, 64}, {64, 64}, {33, 64}, {32, 32}, {17, 32}, {16, 16}, {9, 16}, {8, 8}, {5, 8}, {3, 8}, {2, 8}, {1, 16}, {1, 32}, {1, 64}};
    int which[STEP_ROWS], faults = 0;
    uint64_t seed = 17;
    for (int i = 0; i < w->n; i++)
        which[i] = i;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        run(w, which, counts[c][0], counts[c][1]); /* the first time in order */
        faults += check_bits(w, which, counts[c][0], counts[c][1], "company");
        shuffle(which, w->n, &seed);
    }
    return faults;
}

static int sees(const struct node *n, const struct step_row *other)
{
    for (int p = 0; p <= n->row.pos && n->row.seq == other->seq; p++)
        if (slot_of(n, p) == other->slot)
            return 1;
    return 0;
}

/* A node of each tree, one in line and one of a long text have NaN for K and V: who sees them is NaN, the others do not notice. */
static int check_neighbour(struct world *w)
{
    static const int sick[] = {TREE_A + 4, TREE_B + 2, LINE + 2, SINGLES + 3};
    int which[STEP_ROWS], faults = 0;
    size_t row = (size_t)w->pad * (size_t)w->bytes;
    for (int i = 0; i < 4; i++)
        for (int head = 0; head < w->s.kv_heads; head++)
            for (int kv = 0; kv < 2; kv++) {
                uint8_t *at = slot_bytes(w, w->node[sick[i]].row.seq, w->node[sick[i]].row.slot, head, kv);
                GPU(cudaMemset(w->d_pages + (at - w->pages), 0xff, row));
            }
    for (int i = 0; i < w->n; i++)
        which[i] = i;
    run(w, which, w->n, 64);
    for (int i = 0; i < w->n; i++) {
        int ill = 0, wrong = 0;
        for (int k = 0; k < 4; k++)
            ill |= sees(&w->node[i], &w->node[sick[k]].row);
        for (int col = 0; col < w->s.heads * w->s.dim; col++) {
            uint32_t got = bits_of(w, 64, i, col);
            wrong += ill ? !isnan(float_of(w, got)) : got != ((const uint32_t *)w->alone)[i * w->x_units * 32 + col];
        }
        if (wrong && faults++ < 4)
            fprintf(stderr, "%s: node %d (pos %d) beside a NaN that it %s: %d columns wrong\n", name_of(w), i, w->node[i].row.pos, ill ? "sees" : "does not see", wrong);
    }
    return faults;
}

static int check_shape(struct shape s)
{
    struct world *w = open_world(s);
    int faults = 0;
    assert_int_equal(w->n, STEP_ROWS);
    for (int i = 0; i < w->n; i++)
        faults += check_alone(w, i);
    faults += check_twins(w);
    faults += check_company(w);
    faults += check_neighbour(w);
    fprintf(stderr, "%s: %d faults\n", name_of(w), faults);
    close_world(w);
    return faults;
}

static void test_rows(void **state)
{
    (void)state;
    static const struct shape shapes[] = {{4, 4, 128, 0, 1}, {8, 2, 128, 0, 0}, {8, 1, 128, 1, 1}, {3, 3, 64, 0, 1}, {4, 1, 64, 1, 0}, {5, 5, 80, 0, 0},
                                          {6, 2, 20, 0, 1},  {3, 3, 20, 1, 1},  {2, 1, 66, 0, 1},  {2, 2, 256, 0, 1}, {4, 1, 250, 1, 1}, {16, 1, 128, 0, 1}};
    int faults = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        faults += check_shape(shapes[i]);
    assert_int_equal(faults, 0);
}

/* ---- speed ---- */

struct course {
    int heads, kv_heads, context, rows, tree;
};

static struct step *course_step(const struct course *c)
{
    struct step *s = calloc(1, sizeof *s);
    int prefix = c->context - c->rows;
    uint64_t seed = 3, also[STEP_ROWS] = {0};
    s->n = c->rows;
    for (int i = 0; i < c->rows; i++) {
        int parent = c->tree ? i ? (int)(gpu_random(&seed) % (uint64_t)i) : -1 : i - 1, slot = prefix + i;
        also[i] = parent < 0 ? 0 : also[parent] | 1ull << parent;
        int pos = prefix + __builtin_popcountll(also[i]);
        s->row[i] = (struct step_row){.pos = pos, .slot = slot, .prefix = prefix, .also = also[i], .page = slot / PAGE_SLOTS, .at = slot % PAGE_SLOTS};
        s->row[i].straight = slot == pos && (also[i] & (also[i] + 1)) == 0;
    }
    cuda_group_rows(s);
    return s;
}

static float time_graph(cudaGraphExec_t exec, cudaStream_t stream)
{
    cudaEvent_t a, b;
    float best = 1e9f, ms;
    GPU(cudaEventCreate(&a));
    GPU(cudaEventCreate(&b));
    for (int k = 0; k < 12; k++) {
        GPU(cudaEventRecord(a, stream));
        GPU(cudaGraphLaunch(exec, stream));
        GPU(cudaEventRecord(b, stream));
        GPU(cudaStreamSynchronize(stream));
        GPU(cudaEventElapsedTime(&ms, a, b));
        best = ms < best ? ms : best;
    }
    GPU(cudaEventDestroy(a));
    GPU(cudaEventDestroy(b));
    return best;
}

/* 40 layers of attention in a graph, each with keys and values of its own. */
static void print_speed(const struct course *c)
{
    enum { DEEP = 40, DIM = 128 };
    int pages = (c->context + PAGE_SLOTS - 1) / PAGE_SLOTS, bucket = c->rows <= 8 ? 8 : 64, max_chunks = chunk_of(c->context) + 1;
    size_t layer_bytes = (size_t)c->kv_heads * 2 * PAGE_SLOTS * DIM * 2, q_floats = (size_t)bucket * (size_t)c->heads * DIM;
    uint64_t seed = 11;
    uint16_t *some = host(layer_bytes);
    float *q = host(q_floats * 4);
    int32_t table[64];
    for (size_t i = 0; i < layer_bytes / 2; i++)
        some[i] = to_bf16(gpu_normal(&seed));
    for (size_t i = 0; i < q_floats; i++)
        q[i] = gpu_normal(&seed);
    uint8_t *d_pages = gpu_take(layer_bytes * DEEP * (size_t)pages);
    for (int i = 0; i < DEEP * pages; i++)
        GPU(cudaMemcpy(d_pages + (size_t)i * layer_bytes, some, layer_bytes, cudaMemcpyHostToDevice));
    for (int i = 0; i < pages; i++)
        table[i] = i;
    struct step *step = course_step(c);
    struct kv_shape kv = {.pages = d_pages, .table = gpu_copy(table, sizeof table), .page_bytes = layer_bytes * DEEP, .n_layers = DEEP, .n_kv_heads = c->kv_heads, .n_heads = c->heads,
                          .head_dim = DIM, .head_pad = DIM, .pages_per_seq = pages};
    struct attend a = {.step = gpu_copy(step, sizeof *step), .bucket = bucket, .rows = bucket, .kv = kv, .q = gpu_copy(q, q_floats * 4), .scale = 0.088388f, .max_chunks = max_chunks,
                       .part = gpu_take((size_t)bucket * (size_t)c->heads * (size_t)max_chunks * (DIM + 2) * 4), .x_out = gpu_take(q_floats * 2), .x_units = c->heads * DIM / 32};
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    GPU(cudaStreamCreate(&stream));
    GPU(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (a.layer = 0; a.layer < DEEP; a.layer++)
        GPU(cuda_attend((struct launch){.stream = stream, .chain = a.layer > 0}, &a));
    GPU(cudaStreamEndCapture(stream, &graph));
    GPU(cudaGraphInstantiate(&exec, graph, 0));
    float us = time_graph(exec, stream) * 1000 / DEEP;
    fprintf(stderr, "speed: %d/%d heads of %d, context %4d, %2d %s: %6.2f us a layer, %.0f GB/s\n", c->heads, c->kv_heads, DIM, c->context, c->rows,
            c->tree ? "rows of a tree" : "rows in line", (double)us, (double)c->context * c->kv_heads * DIM * 4 / (double)us / 1e3);
    GPU(cudaGraphExecDestroy(exec));
    GPU(cudaGraphDestroy(graph));
    GPU(cudaStreamDestroy(stream));
    void *on_device[] = {d_pages, (void *)kv.table, (void *)a.step, (void *)a.q, a.part, a.x_out};
    for (size_t i = 0; i < sizeof on_device / sizeof *on_device; i++)
        GPU(cudaFree(on_device[i]));
    free(some), free(q), free(step);
}

static void test_speed(void **state)
{
    (void)state;
    static const struct course courses[] = {{40, 40, 512, 1, 0},  {40, 40, 512, 8, 0},  {40, 40, 512, 8, 1},  {40, 40, 288, 64, 0}, {40, 40, 288, 64, 1},
                                            {32, 8, 2048, 1, 0}, {32, 8, 2048, 8, 0}, {40, 40, 3000, 1, 0}, {40, 40, 64, 1, 0}};
    for (size_t i = 0; i < sizeof courses / sizeof *courses; i++)
        print_speed(&courses[i]);
}

int main(void)
{
    gpu_or_skip();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_speed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
