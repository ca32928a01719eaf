/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding: timelines, the round, drafters.

   A round: every timeline plants its pending token as the root of a small tree; drafters grow it; every node goes through the layers it has not seen; the head
   picks a token at every node; the walk from the root follows the child that equals the pick; what was walked, and the last pick, is committed; the rest is
   forgotten. A drafter can only propose, so nothing that it does can change the text. */
#ifndef DECODE_DECODE_H
#define DECODE_DECODE_H

#include "backend/backend.h"
#include "decode/edits.h"
#include "decode/ngram.h"
#include "decode/pace.h"
#include "decode/recycle.h"
#include "decode/reply.h"
#include "decode/trust.h"

enum { DRAFTS_MAX = 32 };

struct node {
    struct row row;
    int32_t parent; /* index; -1 at the root */
    int16_t at;     /* layers already behind it */
    uint8_t kind;   /* of trust.h */
    float reach;    /* probability, as its drafters see it, that the walk comes here; 1 at the root */
    uint32_t state; /* of the grammar's matcher, behind this token */
};

struct tree {
    struct node *node; /* [cap]; node[0] is the pending token; parents first */
    int n, cap;
};

/* The way from the root that the model's own picks took: n nodes, and the pick at each. pick[i].token is the token of node[i + 1]; the last pick is the model's own. */
struct walk {
    int n;
    int32_t node[DRAFTS_MAX + 1];
    struct pick pick[DRAFTS_MAX + 1];
};

struct stats {
    int prompt_tokens, cached_tokens, reply_tokens;
    int64_t prompt_ns, reply_ns;
    int rounds, drafted, accepted;
    int drafted_at[DRAFTS_MAX], accepted_at[DRAFTS_MAX];
    uint64_t reply_bytes, waits; /* of the rounds that it took part in */
};

/* Drafters that a request wants, together: the sum of their bits; 0 is plain decoding. They propose in the order of the table. */
enum { DRAFT_NGRAM = 1, DRAFT_EXIT = 2, DRAFT_RECYCLE = 4 };

/* What a request asks for. */
struct request {
    unsigned drafters;
    int exit_layer, n_drafts, depth; /* layers of a draft, drafts in a round, layers of the whole */
    int n_free;                      /* drafts beyond those in a round that cost no pass, as far as they are worth their time */
    float draft_min_conf;
    bool weighed; /* only drafts that are worth their time, n_drafts at most; else as many as there are */
    struct sampling sampling;
    struct limits limits;
    int n_top;                       /* most probable tokens that its events tell, at most PICK_TOP */
    int max_tokens;                  /* of the reply; at least 1 */
};

/* One sequence of tokens. All layers below `depth` hold K and V of exactly the first n_kv tokens; the last token is pending. */
struct timeline {
    int seq;
    int32_t *token;  /* [n_slots] */
    int n, n_kv, n_prompt;
    int n_prefilled; /* the first slots, whose K and V the backend's prefill wrote; 0 where forward serves */
    struct request ask;
    struct reply reply;
    struct edits edits;
    struct tree tree;
    struct walk walk;
    struct ngram ngram; /* of prompt and reply */
    struct recycle recycle;
    bool draft_ended; /* no more drafts in this round */
    struct stats stats;
};

struct engine {
    const struct backend *b;
    struct kv *kv;
    int n_layers, n_vocab, n_slots, batch, max_drafts, n_hidden;
    bool draft_head; /* drafts are chosen with a head of their own */
    struct pace pace;
    struct trust trust;
    int n_rows; /* that this round is going to verify */
    /* scratch of a round, [n_hidden] each */
    struct node **list;
    struct timeline **who;   /* whose node list[i] is */
    struct timeline **ready; /* [timelines] */
    int16_t *to;
    struct row *rows;
    struct ask *asks;
    struct pick *picks;
};

struct drafter {
    const char *name, *help;
    unsigned bit;
    /* Grows t[i]->tree by at most its budget; NULL: never proposes. */
    int (*propose)(struct engine *e, struct timeline **t, int n, struct error *err);
};

extern const struct drafter drafter_none, drafter_ngram, drafter_exit, drafter_recycle;
const struct drafter *drafter_at(int i);              /* NULL past the last */
int drafters_find(const char *names, unsigned *out);  /* "exit+ngram": their bits; below zero: one is not there */

/* ---- engine.c ---- */
int engine_open(struct engine *e, const struct backend *b, struct kv *kv, const struct device_options *o, int n_layers, int n_vocab, int batch, int max_drafts, struct error *err);
void engine_close(struct engine *e);

/* Brings list[i] to layer to[i], each from where it stands; rows that stand at the same layer go together. */
int engine_advance(struct engine *e, struct node **list, const int16_t *to, int n, struct error *err);

struct ask engine_ask(const struct timeline *t, bool draft); /* what it wants of a pick, but for edits */

/* A pick at e->list[i], as e->who[i] wants it, to e->picks[i]. draft: not to be committed, only proposed. */
int engine_pick(struct engine *e, int n, bool draft, struct error *err);

/* ---- timeline.c ---- */
uint64_t timeline_bytes(int n_slots, int n_vocab); /* that one takes for drafting */
int timeline_open(struct timeline *t, struct engine *e, struct error *err);
void timeline_close(struct timeline *t, struct engine *e);

/* The timeline becomes the prompt; the longest prefix that it holds at this depth is kept, as far as its slots have the role that the prompt gives them
   (prefill before its last token, where the backend has that). The reply's text rules are set by the caller (t->reply). */
int timeline_prompt(struct timeline *t, struct engine *e, const int32_t *tokens, int n, const struct request *ask, struct error *err);
void timeline_forget(struct timeline *t, struct engine *e); /* as if it had never held a token */
bool timeline_has_prompt_left(const struct timeline *t); /* tokens before the pending one that no layer has seen */
int timeline_prefill(struct timeline *t, struct engine *e, struct error *err); /* one batch of them */
int timeline_budget(const struct timeline *t, const struct engine *e); /* drafts that the tree may still grow by */
int timeline_passes(const struct timeline *t, const struct engine *e); /* those of them that may cost a pass */

/* A draft below a node; NULL: the grammar refuses it. There must be room. */
struct node *timeline_draft(struct timeline *t, int parent, int32_t token, int kind, float chance);

/* The only place where a timeline grows. Tokens go one by one through one stop check; what lies behind a stop leaves timeline and statistics. */
int timeline_commit(struct timeline *t, struct engine *e, struct error *err);

/* ---- edits.c ---- */
bool edits_any(const struct limits *l);
int edits_start(struct edits *x, const struct limits *l, const struct engine *e, int rows, struct error *err); /* takes memory for that many nodes; the grammar is at its beginning */
void edits_close(struct edits *x); /* zeroes are fine */
void edits_ask(struct timeline *t, const struct node *node, struct ask *ask); /* adds the edits of the choice at a node; they stay until it is asked again */
int edits_push(const struct timeline *t, uint32_t *state, int32_t token, struct error *err); /* moves a grammar's state on by a token: 1, or 0: refused. Below zero: as matcher_push */
bool edits_tidy(struct timeline *t, struct error *err);                                      /* once a round; false: the reply cannot go on */
enum reply_finish edits_explain(struct timeline *t, struct error *err); /* why no token is left: REPLY_EOS where the grammar is complete, else REPLY_ERROR with the reason */

/* ---- round.c ---- */
int round_run(struct engine *e, struct timeline **t, int n, struct error *err);

/* ---- worth.c ---- */
void worth_keep(struct engine *e, struct timeline *t, int from);           /* of the free drafts from that one on, whose chances fall, keeps the first that are worth verifying */
void worth_take(struct engine *e, struct timeline *t, int from);           /* the same for drafts that were passed through layers: all, where none is weighed */
bool worth_pass(const struct engine *e, const struct timeline *t);         /* one more draft from the exit layer? */

/* ---- walk.c ---- */
struct node *tree_add(struct tree *tree, int parent, int32_t token, int kind, float chance); /* a new last node, at layer 0; there must be room. chance: to follow parent */
int tree_child(const struct tree *tree, int parent, int32_t token);              /* -1: none */

/* picks: one for each node of the tree, in its order. */
void walk_tree(struct walk *out, const struct tree *tree, const struct pick *picks);

#endif
