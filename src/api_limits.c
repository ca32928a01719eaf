/* SPDX-License-Identifier: Apache-2.0 */
/* What a reply may say: penalties, biases, grammars. */
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "text/json_schema.h"

static int check_reals(const lsk_generate_options *o, struct error *err)
{
    const struct {
        const char *name;
        float value, least, most;
    } reals[] = {{"repeat_penalty", o->repeat_penalty != 0 ? o->repeat_penalty : 1, .01f, 100},
                 {"presence_penalty", o->presence_penalty, -100, 100},
                 {"frequency_penalty", o->frequency_penalty, -100, 100}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (!(reals[i].value >= reals[i].least && reals[i].value <= reals[i].most))
            return fail(err, ERR_USAGE, "%s %g: must be %g to %g", reals[i].name, (double)reals[i].value, (double)reals[i].least, (double)reals[i].most);
    if (o->n_probs < 0 || o->n_probs > PICK_TOP)
        return fail(err, ERR_USAGE, "n_probs %d: must be 0 to %d", o->n_probs, PICK_TOP);
    return 0;
}

static int by_token(const void *a, const void *b)
{
    const struct bias *p = a, *q = b;
    return p->token != q->token ? (p->token > q->token) - (p->token < q->token) : (p->add > q->add) - (p->add < q->add);
}

/* Those of one token are added up. */
static int take_bias(const lsk_model *m, const lsk_generate_options *o, struct bias **out, int *n, struct error *err)
{
    int vocab = m->model.config.vocab;
    if (o->n_logit_bias < 0 || o->n_logit_bias > vocab)
        return fail(err, ERR_USAGE, "logit_bias: %d entries: must be 0 to %d, one for each token", o->n_logit_bias, vocab);
    for (int i = 0; i < o->n_logit_bias; i++) {
        const lsk_logit_bias *b = &o->logit_bias[i];
        if (b->token < 0 || b->token >= vocab)
            return fail(err, ERR_USAGE, "logit_bias: token %d: the vocabulary has 0 to %d", b->token, vocab - 1);
        if (!(b->bias <= 1e6f && (b->bias >= -1e6f || b->bias == -INFINITY)))
            return fail(err, ERR_USAGE, "logit_bias: token %d: %g: must be -1e6 to 1e6, or -infinity", b->token, (double)b->bias);
    }
    *n = 0;
    *out = calloc((size_t)o->n_logit_bias + 1, sizeof **out);
    if (!*out)
        return fail(err, ERR_OS, "out of memory");
    for (int i = 0; i < o->n_logit_bias; i++)
        (*out)[i] = (struct bias){o->logit_bias[i].token, o->logit_bias[i].bias};
    qsort(*out, (size_t)o->n_logit_bias, sizeof **out, by_token);
    for (int i = 0; i < o->n_logit_bias; i++) {
        struct bias b = (*out)[i];
        if (*n && (*out)[*n - 1].token == b.token)
            (*out)[*n - 1].add += b.add;
        else
            (*out)[(*n)++] = b;
    }
    return 0;
}

static struct bytes bytes_of(const char *text) { return (struct bytes){(const uint8_t *)text, strlen(text)}; }

static int take_grammar(const lsk_generate_options *o, struct api_grammar *last, struct api_grammar *out, struct error *err)
{
    const char *source = o->grammar ? o->grammar : o->json_schema;
    bool is_schema = !o->grammar;
    if (o->grammar && o->json_schema)
        return fail(err, ERR_USAGE, "grammar and json_schema are both given: give one of them");
    if (!source)
        return 0;
    if (o->ignore_eos)
        return fail(err, ERR_USAGE, "ignore_eos and a grammar contradict each other: where the grammar is complete the reply has to end");
    if (last->source && last->is_schema == is_schema && !strcmp(last->source, source)) {
        *out = *last;
        *last = (struct api_grammar){0};
        return 0;
    }
    *out = (struct api_grammar){.source = strdup(source), .is_schema = is_schema};
    if (!out->source)
        return fail(err, ERR_OS, "out of memory");
    char *made = is_schema ? json_schema_to_gbnf("JSON schema", bytes_of(source), err) : NULL;
    const char *text = is_schema ? made : source;
    out->grammar = text ? grammar_open(is_schema ? "JSON schema, as a grammar" : "grammar", bytes_of(text), err) : NULL;
    free(made);
    return out->grammar ? 0 : err->code;
}

/* All tokens as texts; made for the first reply that has a grammar. */
static const struct token_tree *tree_of(lsk_model *m, struct error *err)
{
    int n = m->model.config.vocab;
    struct bytes *text = m->tree ? NULL : calloc((size_t)n, sizeof *text);
    if (m->tree)
        return m->tree;
    if (!text) {
        fail(err, ERR_OS, "out of memory for the texts of %d tokens", n);
        return NULL;
    }
    for (int i = 0; i < n; i++)
        if (!tokenizer_hidden(m->model.tokenizer, i))
            text[i] = tokenizer_piece(m->model.tokenizer, i);
    m->tree = token_tree_open(text, n, NULL, 0, err); /* which tokens end a text is the reply's to say */
    free(text);
    return m->tree;
}

void api_limits_free(struct api_limits *l)
{
    matcher_close(l->grammar.matcher);
    grammar_close(l->grammar.grammar);
    free(l->grammar.source);
    free(l->bias);
    *l = (struct api_limits){0};
}

static int take(const lsk_model *m, const lsk_generate_options *o, struct api_limits *last, struct api_limits *out, struct error *err)
{
    int rc = check_reals(o, err);
    rc = rc ? rc : take_bias(m, o, &out->bias, &out->n_bias, err);
    return rc ? rc : take_grammar(o, &last->grammar, &out->grammar, err);
}

int api_limits_take(lsk_model *m, const lsk_generate_options *o, struct api_limits *last, struct api_limits *out, struct request *r, struct error *err)
{
    *out = (struct api_limits){0};
    struct api_grammar *g = &out->grammar;
    int rc = take(m, o, last, out, err);
    if (!rc && g->grammar && !g->matcher) {
        const struct token_tree *tree = tree_of(m, err);
        g->matcher = tree ? matcher_open(g->grammar, tree, err) : NULL;
        rc = g->matcher ? 0 : err->code;
    }
    if (rc) {
        api_limits_free(out);
        return rc;
    }
    r->n_top = o->n_probs;
    r->limits = (struct limits){.repeat = o->repeat_penalty, .presence = o->presence_penalty, .frequency = o->frequency_penalty, .bias = out->bias, .n_bias = out->n_bias,
                                .last_n = o->repeat_last_n > 0 ? o->repeat_last_n : o->repeat_last_n < 0 ? INT32_MAX : 64, .matcher = g->matcher};
    return 0;
}

int lsk_options_check(const lsk_model *m, const lsk_generate_options *o, lsk_error *err)
{
    static const lsk_generate_options none;
    struct error e = {0};
    struct api_limits last = {0}, made = {0};
    o = o ? o : &none;
    int rc = api_check_options(o, "lsk_generate_options", &e);
    rc = rc ? rc : api_check_sampling(o, &e);
    rc = rc ? rc : take(m, o, &last, &made, &e);
    api_limits_free(&made);
    return rc ? api_fail(err, &e) : 0;
}
