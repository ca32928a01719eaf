/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/recycle.h"

#include <stdlib.h>

uint64_t recycle_bytes(int n_vocab) { return (uint64_t)n_vocab * sizeof(struct guess[RECYCLE_TOP]); }

int recycle_open(struct recycle *r, int n_vocab, struct error *err)
{
    *r = (struct recycle){.n_vocab = n_vocab};
    r->after = calloc((size_t)n_vocab, sizeof *r->after); /* the system gives pages when they are first touched */
    return r->after ? 0 : fail(err, ERR_OS, "out of memory for the candidates after %d tokens", n_vocab);
}

void recycle_close(struct recycle *r)
{
    free(r->after);
    *r = (struct recycle){0};
}

void recycle_learn(struct recycle *r, int32_t token, const struct pick *p)
{
    for (int i = 0; i < p->n_top && i < RECYCLE_TOP; i++)
        r->after[token][i] = (struct guess){p->top[i].token, pick_exp(p->top[i].logprob)};
    r->used |= p->n_top > 0;
}

void recycle_forget(struct recycle *r)
{
    if (r->used)
        memset(r->after, 0, recycle_bytes(r->n_vocab));
    r->used = false;
}
