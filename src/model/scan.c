/* SPDX-License-Identifier: Apache-2.0 */
#include "model/scan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SCAN_BYTES = 4 << 20 };

struct found {
    uint64_t count, first; /* values that are not finite, index of the first */
};

static void scan_values(const float *x, uint64_t n, uint64_t index, struct found *f)
{
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) {
            if (f->count++ == 0)
                f->first = index + i;
        }
}

struct scan {
    const struct checkpoint *c;
    const struct scan_listener *l;
    uint64_t done, total; /* bytes */
};

/* rows: how many are read at a time; raw and wide have room for them. */
static int scan_tensor(struct scan *s, const struct view *v, uint64_t rows, uint8_t *raw, float *wide, struct found *f, struct error *err)
{
    for (uint64_t row = 0; row < v->dim[0]; row += rows) {
        uint64_t n = v->dim[0] - row < rows ? v->dim[0] - row : rows;
        int rc = checkpoint_read_rows(s->c, v, row, n, raw, err);
        if (rc)
            return rc;
        dtype_to_f32(v->type, raw, wide, n * v->dim[1]);
        scan_values(wide, n * v->dim[1], row * v->dim[1], f);
        s->done += n * view_row_bytes(v);
        if (s->l->progress && s->l->progress(s->l->ud, "checking weights", s->done, s->total))
            return fail(err, ERR_USAGE, "stopped");
    }
    return 0;
}

static int report(const struct scan *s, const struct view *v, const struct found *f, struct error *err)
{
    char line[400];
    snprintf(line, sizeof line, "tensor %.256s: %llu values are not finite, the first at index %llu", v->file_name, (unsigned long long)f->count, (unsigned long long)f->first);
    return s->l->report && s->l->report(s->l->ud, line) ? fail(err, ERR_USAGE, "stopped") : 0;
}

int scan_weights(const struct checkpoint *c, const struct scan_listener *l, struct error *err)
{
    struct scan s = {.c = c, .l = l};
    int bad = 0;
    for (int i = 0; i < c->n_views; i++)
        s.total += c->view[i].bytes;
    for (int i = 0; i < c->n_views; i++) {
        const struct view *v = &c->view[i];
        uint64_t row_bytes = view_row_bytes(v), rows = row_bytes && row_bytes < SCAN_BYTES ? SCAN_BYTES / row_bytes : 1;
        rows = rows < v->dim[0] ? rows : v->dim[0];
        uint8_t *raw = malloc(rows * row_bytes);
        float *wide = malloc(rows * v->dim[1] * sizeof *wide);
        struct found f = {0};
        int rc = raw && wide ? scan_tensor(&s, v, rows, raw, wide, &f, err) : fail(err, ERR_OS, "out of memory to look at tensor %s", v->file_name);
        free(raw);
        free(wide);
        if (!rc && f.count)
            rc = report(&s, v, &f, err);
        if (rc)
            return rc;
        bad += f.count != 0;
    }
    return bad;
}
