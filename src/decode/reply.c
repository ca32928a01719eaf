/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/reply.h"

#include <stdlib.h>
#include <string.h>

/*  token -> stream (whole characters) -> scratch -> stop strings (hold back) -> text: events point into it  */

int reply_open(struct reply *r, const struct tokenizer *t, struct error *err)
{
    size_t room = stream_room(t);
    *r = (struct reply){.tokenizer = t, .finish = REPLY_ERROR, .cap = REPLY_EVENTS * room + 2 * STOP_BYTES_MAX};
    r->text = malloc(r->cap);
    r->scratch = malloc(room);
    if (r->text && r->scratch)
        return 0;
    reply_close(r);
    return fail(err, ERR_OS, "out of memory");
}

void reply_close(struct reply *r)
{
    stop_close(&r->stop);
    free(r->text);
    free(r->scratch);
    *r = (struct reply){0};
}

int reply_start(struct reply *r, const struct reply_rules *rules, struct error *err)
{
    struct bytes stop[STOP_MAX];
    if (rules->n_stop < 0 || rules->n_stop > STOP_MAX)
        return fail(err, ERR_USAGE, "%d stop strings: at most %d", rules->n_stop, STOP_MAX);
    if (rules->n_eos > REPLY_EOS_MAX)
        return fail(err, ERR_USAGE, "%d end-of-text ids: at most %d", rules->n_eos, REPLY_EOS_MAX);
    for (int i = 0; i < rules->n_stop; i++)
        stop[i] = (struct bytes){(const uint8_t *)rules->stop[i], strlen(rules->stop[i])};
    stop_close(&r->stop);
    r->finish = REPLY_ERROR;
    r->why = (struct error){0};
    int rc = stop_open(&r->stop, stop, rules->n_stop, err);
    if (rc)
        return rc;
    r->finish = REPLY_RUNNING;
    r->stream = (struct stream){.t = r->tokenizer, .show_special = rules->show_special};
    r->n_eos = rules->n_eos;
    for (int i = 0; i < rules->n_eos; i++)
        r->eos[i] = rules->eos[i];
    reply_clear(r);
    return 0;
}

bool reply_ends(const struct reply *r, int32_t token)
{
    for (int i = 0; i < r->n_eos; i++)
        if (r->eos[i] == token)
            return true;
    return false;
}

/* The next event, whose text is what has come to r->text since `from`. */
static struct reply_event *add_event(struct reply *r, const struct pick *p, bool drafted, size_t from)
{
    struct reply_event *e = &r->event[r->n_events++];
    e->token = p->token;
    e->drafted = drafted;
    e->logprob = p->logprob;
    e->text = from;
    e->n_text = r->n_text - from;
    e->n_top = 0;
    return e;
}

void reply_push(struct reply *r, const struct pick *p, int n_top, bool drafted)
{
    size_t from = r->n_text;
    bool ends = reply_ends(r, p->token);
    if (!ends || r->stream.show_special) {
        size_t n = stream_push(&r->stream, p->token, r->scratch);
        r->n_text += stop_push(&r->stop, r->scratch, n, r->text + r->n_text);
    }
    struct reply_event *e = add_event(r, p, drafted, from);
    e->n_top = n_top < p->n_top ? n_top : p->n_top;
    memcpy(e->top, p->top, (size_t)e->n_top * sizeof *e->top);
    r->finish = r->stop.found ? REPLY_STOP : ends ? REPLY_EOS : REPLY_RUNNING;
}

void reply_flush(struct reply *r)
{
    size_t from = r->n_text;
    if (!r->stop.found) {
        size_t n = stream_flush(&r->stream, r->scratch);
        r->n_text += stop_push(&r->stop, r->scratch, n, r->text + r->n_text);
        r->n_text += stop_flush(&r->stop, r->text + r->n_text);
    }
    if (r->n_text > from || r->n_events == 0)
        add_event(r, &(struct pick){.token = -1}, false, from);
}

void reply_clear(struct reply *r)
{
    r->n_events = 0;
    r->n_text = 0;
}
