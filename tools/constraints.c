/* SPDX-License-Identifier: Apache-2.0 */
#include "constraints.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "messages.h"

const struct option limit_options[] = {
    {"repeat-penalty repetition-penalty", OPT_REAL, offsetof(struct limit_args, repeat), "R", "1", .01, 100,
     .help = "make tokens of the window less likely: their logits are divided by R, those below 0 multiplied; prompt and reply count; 1 is off"},
    {"repeat-last-n", OPT_INT, offsetof(struct limit_args, last_n), "N", "64", -1, 1 << 30, .help = "the window: so many tokens back from the one that is chosen; 0 is none, -1 all"},
    {"presence-penalty", OPT_REAL, offsetof(struct limit_args, presence), "P", "0", -100, 100, .help = "take P from the logit of every token that the reply has in the window"},
    {"frequency-penalty", OPT_REAL, offsetof(struct limit_args, frequency), "F", "0", -100, 100, .help = "take F from it as often as the reply has it there"},
    {"logit-bias l", OPT_TEXTS, offsetof(struct limit_args, bias), "ID+B|ID-B",
     .help = "add B to the logit of token ID, or take it away: 15043+1; ID-inf never lets it come; may be repeated (`layerskip tokenize` tells ids)"},
    {"grammar", OPT_TEXT, offsetof(struct limit_args, grammar), "GBNF", .instead = "grammar-file",
     .help = "let the reply be a text of this grammar, as in llama.cpp: 'root ::= \"yes\" | \"no\"'; where it is complete the reply ends"},
    {"grammar-file", OPT_TEXT, offsetof(struct limit_args, grammar_file), "FILE", .instead = "grammar", .help = "a grammar from a file"},
    {"json-schema j", OPT_TEXT, offsetof(struct limit_args, schema), "SCHEMA", .instead = "json-schema-file",
     .help = "let the reply be JSON that is valid against this schema; {} is any JSON; what cannot be kept of a schema is refused by name"},
    {"json-schema-file jf", OPT_TEXT, offsetof(struct limit_args, schema_file), "FILE", .instead = "json-schema", .help = "a schema from a file"},
    {0}};

int read_bias(const char *text, lsk_logit_bias *out)
{
    size_t digits = strspn(text, "0123456789");
    char id[16];
    uint64_t token;
    double bias;
    if (digits >= sizeof id || (text[digits] != '+' && text[digits] != '-'))
        return -1;
    memcpy(id, text, digits);
    id[digits] = 0;
    if (read_natural(id, &token) || token > INT32_MAX)
        return -1;
    if (!strcmp(text + digits, "-inf"))
        bias = -INFINITY;
    else if (read_real(text + digits + (text[digits] == '+'), &bias) || (text[digits] == '+' && text[digits + 1] == '-'))
        return -1;
    *out = (lsk_logit_bias){(int32_t)token, (float)bias};
    return 0;
}

static int refuse_bias(const char *name, const char *text, lsk_error *err)
{
    return complain(err, LSK_EUSAGE, "%s: \"%s\": must be ID+BIAS, ID-BIAS or ID-inf, as 15043+1", name, excerpt_of(text).text);
}

/* The one text of up to four sources; *file: where it is from one. */
static int read_text(const struct limit_args *a, char **text, const char **file, lsk_error *err)
{
    const char *const given[] = {a->grammar, a->grammar_file, a->schema, a->schema_file};
    static const char *const names[] = {"--grammar", "--grammar-file", "--json-schema", "--json-schema-file"};
    int at = -1;
    size_t n = 0;
    for (int i = 0; i < 4; i++) {
        if (given[i] && at >= 0)
            return complain(err, LSK_EUSAGE, "both %s and %s are given: give one of them", names[at], names[i]);
        at = given[i] ? i : at;
    }
    *file = at >= 0 && at % 2 ? given[at] : NULL;
    if (at < 0)
        return 0;
    int r = *file ? read_stream(*file, text, &n, err) : 0;
    if (r >= 0 && !*file && !(*text = strdup(given[at])))
        r = complain(err, LSK_EOS, "out of memory");
    if (r >= 0 && *file && strlen(*text) != n)
        r = complain(err, LSK_EDATA, "%s: %s: holds a zero byte: it is no text", names[at], excerpt_of(*file).text);
    return r;
}

int apply_limits(const struct limit_args *a, struct limit_values *own, lsk_generate_options *o, lsk_error *err)
{
    const char *file;
    int r = read_text(a, &own->text, &file, err);
    for (int i = 0; r >= 0 && i < a->bias.n; i++)
        if (read_bias(a->bias.item[i], &own->bias[i]))
            r = refuse_bias("--logit-bias", a->bias.item[i], err);
    if (r < 0)
        return r;
    *(a->schema || a->schema_file ? &o->json_schema : &o->grammar) = own->text;
    o->logit_bias = own->bias;
    o->n_logit_bias = a->bias.n;
    o->repeat_last_n = a->last_n;
    o->repeat_penalty = (float)a->repeat;
    o->presence_penalty = (float)a->presence;
    o->frequency_penalty = (float)a->frequency;
    return 0;
}

lsk_generate_options without_window(const lsk_generate_options *o)
{
    lsk_generate_options asked = *o;
    if (!asked.repeat_last_n)
        asked.repeat_penalty = asked.presence_penalty = asked.frequency_penalty = 0;
    return asked;
}

void free_limits(struct limit_values *own)
{
    free(own->text);
    own->text = NULL;
}

int check_limits(const struct limit_args *a, const lsk_model *m, const lsk_generate_options *o, lsk_error *err)
{
    const char *file = a->grammar_file ? a->grammar_file : a->schema_file;
    int r = lsk_options_check(m, o, err);
    if (r != LSK_EDATA || !file)
        return r;
    lsk_error why = *err;
    return complain(err, r, "%s: %.400s", excerpt_of(file).text, why.text);
}

int change_limits(struct limit_values *own, lsk_generate_options *o, const lsk_model *m, const char *name, const char *text, lsk_error *err)
{
    lsk_generate_options next = *o;
    char *copy = NULL;
    if (!strcmp(name, "logit_bias")) {
        next.n_logit_bias = *text ? o->n_logit_bias + 1 : 0;
        if (next.n_logit_bias > TEXTS_MAX)
            return complain(err, LSK_EUSAGE, "/set logit_bias: at most %d of them; `/set logit_bias` without a value takes all away", TEXTS_MAX);
        if (*text && read_bias(text, &own->bias[o->n_logit_bias]))
            return refuse_bias("/set logit_bias", text, err);
        next.logit_bias = own->bias;
    } else {
        copy = *text ? strdup(text) : NULL;
        if (*text && !copy)
            return complain(err, LSK_EOS, "out of memory");
        next.grammar = next.json_schema = NULL;
        *(strcmp(name, "grammar") ? &next.json_schema : &next.grammar) = copy;
    }
    int r = lsk_options_check(m, &next, err);
    if (r < 0) {
        free(copy);
        return r;
    }
    if (strcmp(name, "logit_bias")) {
        free(own->text);
        own->text = copy;
    }
    *o = next;
    return 0;
}
