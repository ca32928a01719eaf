/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/weights.h"

#include <string.h>

static bool is_float(enum dtype t) { return t == DT_F32 || t == DT_F16 || t == DT_BF16; }

static int check_option(const char *w, struct error *err)
{
    static const char *const known[] = {"file", "bf16", "q8", "q4"};
    for (size_t i = 0; w && i < sizeof known / sizeof *known; i++)
        if (!strcmp(w, known[i]))
            return 0;
    return w ? fail(err, ERR_USAGE, "weights \"%s\": must be file, bf16, q8 or q4", w) : 0;
}

/* What the option makes of a float tensor of that type; "file" and NULL: nothing else. */
static enum dtype wished_type(enum dtype own, const char *weights, bool is_head)
{
    if (!weights || !strcmp(weights, "file"))
        return own;
    if (!strcmp(weights, "bf16"))
        return DT_BF16;
    return !strcmp(weights, "q8") || is_head ? DT_Q8_0 : DT_Q4_0;
}

static int choose(struct weight *w, const char *weights, struct error *err)
{
    const struct view *v = w->v;
    w->type = is_float(v->type) ? wished_type(v->type, weights, w->is_head) : v->type;
    if (v->dim[1] % (uint64_t)dtype_table[w->type].block)
        return fail(err, ERR_CONFIG, "tensor %s: its rows of %llu values do not divide into blocks of %d; load it with --weights file or bf16", v->file_name,
                    (unsigned long long)v->dim[1], dtype_table[w->type].block);
    return 0;
}

int weights_list(const struct model *m, const char *weights, struct weight *out, struct error *err)
{
    static const enum layer_weight order[LAYER_MATRICES] = {W_Q, W_K, W_V, W_O, W_GATE, W_UP, W_DOWN};
    int n = 0, rc = check_option(weights, err);
    for (int l = 0; l < m->config.n_layers; l++)
        for (int i = 0; i < LAYER_MATRICES; i++)
            out[n++] = (struct weight){.v = model_weight(m, l, order[i]), .layer = l, .which = order[i]};
    out[n++] = (struct weight){.v = checkpoint_find(m->file, "embed"), .layer = -1, .is_head = true};
    if (!m->config.tied)
        out[n++] = (struct weight){.v = checkpoint_find(m->file, "head"), .layer = -1, .is_head = true};
    for (int i = 0; i < n && !rc; i++)
        rc = choose(&out[i], weights, err);
    return rc ? rc : n;
}

int weights_add_draft_head(struct weight *list, int n, const struct device_options *o)
{
    if (!o->n_draft_tokens)
        return n;
    list[n] = list[n - 1];
    list[n].row = o->draft_token;
    list[n].n_rows = o->n_draft_tokens;
    return n + 1;
}

/* Neighbours come in one read. */
int weights_read_rows(const struct checkpoint *c, const struct view *v, const int32_t *row, int from, int n, void *out, struct error *err)
{
    int rc = row ? 0 : checkpoint_read_rows(c, v, (uint64_t)from, (uint64_t)n, out, err);
    for (int i = 0, run; row && i < n && !rc; i += run) {
        for (run = 1; i + run < n && row[from + i + run] == row[from + i] + run;)
            run++;
        rc = checkpoint_read_rows(c, v, (uint64_t)row[from + i], (uint64_t)run, (uint8_t *)out + (uint64_t)i * view_row_bytes(v), err);
    }
    return rc;
}

void weights_describe(const struct weight *w, int n, const char *weights, struct device_plan *out)
{
    uint64_t bytes[DT_COUNT] = {0};
    int kept[DT_COUNT] = {0}, most = 0, most_kept = 0;
    out->n_kept = 0;
    for (int i = 0; i < n; i++) {
        int t = (int)w[i].type;
        bytes[t] += w[i].is_head ? 0 : w[i].bytes;
        if (!w[i].row && w[i].type != wished_type(w[i].v->type, weights, w[i].is_head)) {
            out->n_kept++;
            most_kept = ++kept[t] > kept[most_kept] ? t : most_kept;
        }
    }
    for (int t = 1; t < DT_COUNT; t++)
        most = bytes[t] > bytes[most] ? t : most;
    out->weight_type = dtype_table[most].name;
    out->kept_type = out->n_kept ? dtype_table[most_kept].name : NULL;
}
