/* SPDX-License-Identifier: Apache-2.0 */
/* The public interface is implemented in api_model.c, api_session.c and api_tools.c: option structs in, the engine's own out. Only these files see everything. */
#ifndef API_H
#define API_H

#include "layerskip.h"

#include "decode/decode.h"

struct lsk_model {
    struct model model;
    struct device_options o;
    const struct backend *backend;
    struct device *device;
    struct kv *kv;
    struct engine engine;
    lsk_profile profile; /* the caller's, else the checkpoint's */
    int batch;           /* prompt tokens in one step */
    int32_t *draft_token; /* [info.draft_head] ascending, for the device */
    struct token_tree *tree;      /* of all tokens, once a reply has had a grammar */
    char device_name[24]; /* "cpu", "cuda:1" */
    char device_note[256];
    lsk_model_info info;
};

/* A compiled grammar, with all that its matcher has found out so far. */
struct api_grammar {
    char *source; /* GBNF or a JSON schema; NULL: no grammar */
    bool is_schema;
    struct grammar *grammar;
    struct matcher *matcher;
};

/* What a reply's limits are made of. */
struct api_limits {
    struct bias *bias; /* [n_bias] */
    int n_bias;
    struct api_grammar grammar;
};

struct lsk_session {
    lsk_model *m;
    struct timeline t;
    struct api_limits limits; /* which t borrows */
    lsk_logprob top[PICK_TOP]; /* the event's that the caller sees */
    lsk_stats stats; /* the copy that the caller sees */
    bool stepped;    /* it ran when the step began */
};

/* Hands an error out and returns its code. */
int api_fail(lsk_error *to, const struct error *from);

/* Penalties, biases, n_probs and the grammar of o, checked, into r, which borrows *out. The caller frees that. A grammar that *last has compiled is taken from there. */
int api_limits_take(lsk_model *m, const lsk_generate_options *o, struct api_limits *last, struct api_limits *out, struct request *r, struct error *err);
void api_limits_free(struct api_limits *l); /* zeroes are fine */
int api_check_sampling(const lsk_generate_options *o, struct error *err);
/* ERR_USAGE unless what options have in reserve is zero: a program that was built for a newer library may have asked there for what this one does not know. */
#define api_check_options(o, name, err) api_check_reserved((o)->reserved, sizeof (o)->reserved / sizeof *(o)->reserved, name, err)
int api_check_reserved(const uint64_t *reserved, size_t n, const char *name, struct error *err);

/* ERR_USAGE when a token is not in the vocabulary. */
int api_check_tokens(const lsk_session *s, const int32_t *tokens, int n, struct error *err);

#endif
