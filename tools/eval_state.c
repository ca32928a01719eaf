/* SPDX-License-Identifier: Apache-2.0 */
#include "eval_state.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "json_table.h"
#include "messages.h"
#include "whole_file.h"

/* ---- which run ---- */

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    for (const unsigned char *b = p, *end = b + n; b < end; b++)
        h = (h ^ *b) * 0x100000001b3u;
    return h;
}

static uint64_t mix_task(uint64_t h, const struct task *t)
{
    for (int i = 0; i < t->n; i++) {
        h = mix(h, &t->item[i].gold, sizeof t->item[i].gold);
        for (int k = 0; k < t->item[i].n; k++) {
            const struct task_request *q = &t->item[i].request[k];
            h = mix(h, (int[]){q->n, q->given, q->characters}, 3 * sizeof(int));
            h = mix(h, q->token, (size_t)q->n * sizeof *q->token);
        }
    }
    return mix(h, &t->n, sizeof t->n);
}

static void name_run(struct eval_state *s, const lsk_model_info *i, const struct documents *texts)
{
    const struct exit_scores *e = s->scores;
    char line[600];
    int n = snprintf(line, sizeof line, "%s %s %s %s %s %s %d %g", lsk_version(), i->id, i->device, i->weight_type, i->kv_type, i->compute, e->length, e->limit);
    uint64_t h = mix(0xcbf29ce484222325u, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    h = mix(h, e->depth, (size_t)e->n * sizeof *e->depth);
    for (int k = 0; k < texts->n; k++) {
        h = mix(h, (int[]){texts->item[k].n, texts->item[k].given}, 2 * sizeof(int));
        h = mix(h, texts->item[k].token, (size_t)texts->item[k].n * sizeof *texts->item[k].token);
    }
    for (int k = 0; k < s->n_tasks; k++)
        h = mix_task(h, &s->task[k]);
    snprintf(s->run, sizeof s->run, "%016" PRIx64, h);
}

/* ---- numbers as they are ---- */

static json_t *list_of(const double *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_real(v[i]));
    return json_whole(list, (size_t)n);
}

/* 0: there are as many, each finite and not below zero. */
static int read_list(const json_t *list, double *v, int n)
{
    int bad = json_array_size(list) != (size_t)n;
    for (int i = 0; i < n && !bad; i++) {
        v[i] = json_real_value(json_array_get(list, (size_t)i));
        bad = !json_is_real(json_array_get(list, (size_t)i)) || !isfinite(v[i]) || v[i] < 0;
    }
    return bad;
}

/* 0: a whole number from 0 to most. */
static int read_count(const json_t *object, const char *key, int64_t most, int64_t *out)
{
    const json_t *v = json_object_get(object, key);
    *out = json_integer_value(v);
    return !json_is_integer(v) || *out < 0 || *out > most;
}

enum { SCORE_FIELDS = 4 + WITHINS, TASK_FIELDS = 4 };

static json_t *exit_json(const struct exit_score *x)
{
    double v[SCORE_FIELDS] = {x->nats, x->squares, (double)x->right, (double)x->agree};
    for (int w = 0; w < WITHINS; w++)
        v[4 + w] = (double)x->within[w];
    return list_of(v, SCORE_FIELDS);
}

static int read_exit(const json_t *list, struct exit_score *x)
{
    double v[SCORE_FIELDS];
    if (read_list(list, v, SCORE_FIELDS))
        return 1;
    *x = (struct exit_score){.depth = x->depth, .nats = v[0], .squares = v[1], .right = (uint64_t)v[2], .agree = (uint64_t)v[3]};
    for (int w = 0; w < WITHINS; w++)
        x->within[w] = (uint64_t)v[4 + w];
    return 0;
}

static json_t *task_json(const struct task *t, int n_depths)
{
    json_t *scores = json_array();
    for (int k = 0; k < n_depths; k++) {
        const struct task_score *x = &t->score[k];
        json_array_append_new(scores, list_of((double[]){x->right, x->norm, x->nats, x->squares}, TASK_FIELDS));
    }
    return json_pack("{s:i,s:i,s:o}", "done", t->done, "chosen", t->chosen, "scores", json_whole(scores, (size_t)n_depths));
}

static int read_task(const json_t *j, struct task *t, int n_depths)
{
    const json_t *scores = json_object_get(j, "scores");
    int64_t done, chosen;
    double v[TASK_FIELDS];
    if (read_count(j, "done", t->n, &done) || read_count(j, "chosen", done, &chosen) || json_array_size(scores) != (size_t)n_depths)
        return 1;
    for (int k = 0; k < n_depths; k++) {
        if (read_list(json_array_get(scores, (size_t)k), v, TASK_FIELDS))
            return 1;
        t->score[k] = (struct task_score){v[0], v[1], v[2], v[3]};
    }
    t->done = (int)done;
    t->chosen = (int)chosen;
    return 0;
}

/* ---- the file ---- */

/* 0: all of it was taken up. */
static int take_up(struct eval_state *s, const json_t *j, const struct documents *texts)
{
    struct exit_scores *e = s->scores;
    const json_t *exits = json_object_get(j, "exits"), *tasks = json_object_get(j, "tasks");
    int64_t document, at, counted;
    int bad = strcmp(json_text(j, "run"), s->run) || read_count(j, "document", texts->n, &document) || read_count(j, "at", INT32_MAX - e->length, &at) || read_count(j, "counted", INT64_MAX, &counted) ||
              json_array_size(exits) != (size_t)e->n || json_array_size(tasks) != (size_t)s->n_tasks;
    for (int k = 0; k < e->n && !bad; k++)
        bad = read_exit(json_array_get(exits, (size_t)k), &e->exit[k]);
    for (int k = 0; k < s->n_tasks && !bad; k++)
        bad = read_task(json_array_get(tasks, (size_t)k), &s->task[k], e->n);
    if (bad)
        return 1;
    e->document = (int)document;
    e->at = (int)at;
    e->counted = (uint64_t)counted;
    return 0;
}

static void begin_anew(struct eval_state *s)
{
    struct exit_scores *e = s->scores;
    for (int k = 0; k < e->n; k++)
        e->exit[k] = (struct exit_score){.depth = e->exit[k].depth};
    for (int k = 0; k < s->n_tasks; k++) {
        s->task[k].done = s->task[k].chosen = 0;
        memset(s->task[k].score, 0, sizeof s->task[k].score);
    }
}

int64_t eval_state_open(struct eval_state *s, const char *report, const lsk_model_info *info, const struct documents *texts, lsk_error *err)
{
    json_error_t where;
    if (!report)
        return 0;
    if (snprintf(s->path, sizeof s->path, "%s.part", report) >= (int)sizeof s->path)
        return complain(err, LSK_EUSAGE, "--report: the name is too long");
    name_run(s, info, texts);
    s->kept_ns = now_ns();
    json_t *j = json_load_file(s->path, 0, &where);
    int64_t found = 0;
    if (j && take_up(s, j, texts))
        begin_anew(s);
    json_decref(j);
    for (int k = 0; k < s->n_tasks; k++)
        found += s->task[k].done;
    return found + (int64_t)s->scores->counted;
}

static json_t *state_json(const struct eval_state *s)
{
    const struct exit_scores *e = s->scores;
    json_t *exits = json_array(), *tasks = json_array();
    for (int k = 0; k < e->n; k++)
        json_array_append_new(exits, exit_json(&e->exit[k]));
    for (int k = 0; k < s->n_tasks; k++)
        json_array_append_new(tasks, task_json(&s->task[k], e->n));
    return json_pack("{s:s,s:i,s:i,s:I,s:o,s:o}", "run", s->run, "document", e->document, "at", e->at, "counted", (json_int_t)e->counted, "exits", json_whole(exits, (size_t)e->n), "tasks",
                     json_whole(tasks, (size_t)s->n_tasks));
}

int eval_state_keep(void *state, lsk_error *err)
{
    struct eval_state *s = state;
    struct whole_file w;
    if (!*s->path || (!terminal_interrupted() && now_ns() - s->kept_ns < 5000000000))
        return 0;
    json_t *j = state_json(s);
    int r = j ? whole_open(&w, s->path, err) : complain(err, LSK_EOS, "out of memory");
    if (r >= 0) {
        if (json_dumpf(j, w.f, JSON_REAL_PRECISION(17)))
            r = complain(err, LSK_EIO, "%s: cannot write", excerpt_of(s->path).text);
        r = whole_close(&w, r, err);
    }
    json_decref(j);
    s->kept_ns = now_ns();
    return r;
}

void eval_state_remove(const struct eval_state *s)
{
    if (*s->path)
        unlink(s->path);
}
