/* SPDX-License-Identifier: Apache-2.0 */
#include "backend/rows.h"

int rows_check(const struct config *c, const struct device_options *o, const struct pages *p, int first, int last, int least, const struct row *rows, int n, struct error *err)
{
    if (first < 0 || first >= last || last > c->n_layers)
        return fail(err, ERR_INTERNAL, "layers %d..%d of %d", first, last, c->n_layers);
    for (int i = 0; i < n; i++) {
        const struct row *r = &rows[i];
        bool good = r->seq >= 0 && r->seq < o->n_seqs && p->seq[r->seq].open && r->h >= 0 && r->h < o->n_hidden && r->prefix >= 0 && r->prefix <= r->slot && r->slot < o->n_slots && r->pos < o->n_slots &&
                    r->pos == r->prefix + __builtin_popcountll(r->also) && (first > 0 || (r->token >= least && r->token < c->vocab));
        if (!good)
            return fail(err, ERR_INTERNAL, "row %d of %d: token %d pos %d seq %d slot %d prefix %d h %d", i, n, r->token, r->pos, r->seq, r->slot, r->prefix, r->h);
    }
    return 0;
}

int rows_check_ancestors(const struct pages *p, const struct row *rows, int n, struct error *err)
{
    for (int i = 0; i < n; i++) {
        int last = rows[i].also ? rows[i].prefix + 63 - __builtin_clzll(rows[i].also) : rows[i].prefix - 1;
        if (last / KV_PAGE >= p->seq[rows[i].seq].n_pages)
            return fail(err, ERR_INTERNAL, "row %d of %d sees slot %d, which timeline %d does not hold", i, n, last, rows[i].seq);
    }
    return 0;
}
