/* SPDX-License-Identifier: Apache-2.0 */
/* What a checkpoint says about its model, checked: every number in range, nothing that would change the arithmetic left unheard. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "format/checkpoint.h"

enum { CONFIG_EOS_MAX = 16 };

enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3 };

struct config {
    const char *family; /* a row of the family table, as model_type names it */
    const char *name;   /* what the checkpoint calls itself, or ""; texts are the checkpoint's and live as long */
    const char *dtype;  /* "bfloat16", or NULL */
    int hidden, ffn, n_layers, n_heads, n_kv_heads, head_dim, vocab, context;
    double norm_eps, rope_theta;
    enum rope_kind rope;
    double rope_factor, rope_low, rope_high; /* linear: factor; llama3: all */
    int rope_context;                        /* llama3: the context before scaling */
    bool rope_factors;                       /* the tensor of that name divides the frequencies instead */
    bool tied; /* the embedding is the head, also where the file has a head of its own, as in transformers: that one is never used */
    bool attention_bias, mlp_bias;
    int32_t bos; /* -1: none */
    int n_eos;
    int32_t eos[CONFIG_EOS_MAX];
    float temperature, top_p, min_p; /* how the checkpoint wants to be sampled; temperature 0: greedily, below 0: not said; 0: off */
    int top_k;
    char unused_advice[240]; /* what the generation config says that cannot be used: it is advice, so it is passed over and named here; "" when there is none */
    int exit_layer, num_speculations; /* LayerSkip profile; 0: none */
    const int64_t *draft_token;       /* [n_draft_tokens] the most frequent tokens, most frequent first, none twice: drafts are chosen among the first of them. The checkpoint's */
    int n_draft_tokens;               /* 0: no such list */
    const char *ignored; /* a key passed over as asked although it would change what the model computes, or NULL */
};

/* ignore: keys to pass over although they are unknown, NULL-terminated, or NULL. Each must be there, and none that is read. */
int config_read(struct config *out, const struct checkpoint *c, const char *const *ignore, struct error *err);

/* Every tensor that the config asks for is there with its shape and a type that can serve, and no other. */
int config_check_tensors(const struct config *config, const struct checkpoint *c, struct error *err);

const char *config_rope_name(const struct config *c); /* "plain", "linear", "llama3", "factors" */

#endif
