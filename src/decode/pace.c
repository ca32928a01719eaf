/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/pace.h"

/* A measurement older than STALE rounds is not believed any more, so that one bad moment does not rule out a row count for ever. */
enum { STALE = 512 };

static bool known(const struct pace *p, const struct cost *c, int rows) { return c->ns[rows] > 0 && p->round - c->when[rows] < STALE; }

void pace_note(struct pace *p, struct cost *c, int rows, double passes, int64_t ns)
{
    p->spent += (double)ns;
    if (rows < 1 || rows > ROWS_MAX || passes < 1)
        return;
    double one = (double)ns / passes, *mean = &c->ns[rows];
    if (known(p, c, rows))
        *mean += ((one < 2 * *mean ? one : 2 * *mean) - *mean) / 8; /* a thread that had to wait counts as twice the usual at most */
    else
        *mean = one;
    c->when[rows] = p->round;
}

void pace_queue(struct pace *p, struct cost *c, int rows, double passes, uint64_t bytes, int64_t now)
{
    if (p->n_queued == 0)
        p->since = now;
    if (p->n_queued < QUEUED_MAX)
        p->queued[p->n_queued++] = (struct queued){c, rows, passes, bytes};
}

void pace_drain(struct pace *p, int64_t now)
{
    double all = 0;
    for (int i = 0; i < p->n_queued; i++)
        all += (double)p->queued[i].bytes;
    for (int i = 0; i < p->n_queued && all > 0; i++) {
        const struct queued *q = &p->queued[i];
        pace_note(p, q->cost, q->rows, q->passes, (int64_t)((double)(now - p->since) * (double)q->bytes / all));
    }
    p->n_queued = 0;
}

void pace_round(struct pace *p, int tokens)
{
    p->tokens = p->tokens * 0.95 + tokens;
    p->ns = p->ns * 0.95 + p->spent;
    p->spent = 0;
    p->round++;
}

/* Before two points are known: a row more costs a sixteenth of one row alone. */
static double shape(int rows) { return 15 + rows; }

double pace_cost(const struct pace *p, const struct cost *c, int rows)
{
    int below = rows < ROWS_MAX ? rows : ROWS_MAX, above = rows, second;
    while (below > 0 && !known(p, c, below))
        below--;
    while (above <= ROWS_MAX && !known(p, c, above))
        above++;
    if (below == rows)
        return c->ns[rows];
    if (above > ROWS_MAX) { /* the line through the last two */
        for (second = below - 1; second > 0 && !known(p, c, second);)
            second--;
        above = second > 0 ? second : above;
    }
    if (above > ROWS_MAX && below == 0)
        return 0;
    if (above > ROWS_MAX)
        return c->ns[below] * shape(rows) / shape(below);
    if (below == 0)
        return c->ns[above] * shape(rows) / shape(above);
    double slope = (c->ns[above] - c->ns[below]) / (above - below);
    return c->ns[below] + (slope > 0 ? slope : 0) * (rows - below);
}

double pace_rate(const struct pace *p, int layers)
{
    double plain = layers * pace_cost(p, &p->layer, 1) + pace_cost(p, &p->head, 1);
    double now = p->ns > 0 ? p->tokens / p->ns : 0;
    return plain > 0 && now * plain < 1 ? 1 / plain : now;
}
