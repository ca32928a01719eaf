/* SPDX-License-Identifier: Apache-2.0 */
#include "text/chat_template.h"

#include <string.h>

/* Content may be a text, or a list of parts {"type": "text", "text": ...} as in OpenAI's interface. */
#define TEXT_OF "{%- macro text_of(c) %}{{ c if c is string else c | map(attribute='text', default='') | join }}{% endmacro %}"

static const struct chat_builtin builtins[] = {
    {"llama2", "Llama 2 Chat: <s>[INST] <<SYS>> ... [/INST]",
     TEXT_OF "{%- set system = '' %}"
             "{%- if messages and messages[0].role == 'system' %}"
             "{%- set system = '<<SYS>>\\n' ~ text_of(messages[0].content) ~ '\\n<</SYS>>\\n\\n' %}{% set messages = messages[1:] %}{% endif %}"
             "{%- for m in messages %}"
             "{%- if m.role != ('user', 'assistant')[loop.index0 % 2] %}{{ raise_exception('roles must be user, assistant, user, and so on') }}{% endif %}"
             "{%- if m.role == 'user' %}{{ bos_token ~ '[INST] ' ~ (system if loop.first) ~ text_of(m.content).strip() ~ ' [/INST]' }}"
             "{%- else %}{{ ' ' ~ text_of(m.content).strip() ~ ' ' ~ eos_token }}{% endif %}"
             "{%- endfor %}"},
    {"llama3", "Llama 3 Instruct: <|start_header_id|>user<|end_header_id|> ... <|eot_id|>",
     TEXT_OF "{{- bos_token }}"
             "{%- for m in messages %}{{ '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\\n\\n' ~ text_of(m.content).strip() ~ '<|eot_id|>' }}{% endfor %}"
             "{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"},
    {"chatml", "ChatML: <|im_start|>user ... <|im_end|>",
     TEXT_OF "{%- for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ text_of(m.content) ~ '<|im_end|>\\n' }}{% endfor %}"
             "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"},
};
enum { N_BUILTINS = sizeof builtins / sizeof *builtins };
static const struct chat_builtin codellama = {"codellama", "Code Llama Instruct: the same as llama2", NULL};

const struct chat_builtin *chat_builtin_at(int i)
{
    return i >= 0 && i < N_BUILTINS ? &builtins[i] : i == N_BUILTINS ? &codellama : NULL;
}

const struct chat_builtin *chat_builtin_find(const char *name)
{
    for (int i = 0; i < N_BUILTINS; i++)
        if (!strcmp(name, builtins[i].name))
            return &builtins[i];
    return strcmp(name, codellama.name) ? NULL : &builtins[0];
}

static json_t *token_text(const struct tokenizer *t, int32_t id)
{
    struct bytes b = tokenizer_piece(t, id);
    return b.p ? json_stringn((const char *)b.p, b.n) : NULL;
}

int chat_render(const struct jinja *template, const struct tokenizer *t, const struct chat_request *r, struct arena *arena, struct marked *out, struct error *err)
{
    enum { OWN = 5, VARIABLES_MAX = 32 };
    const struct vocab *v = tokenizer_vocab(t);
    json_t *bos = token_text(t, v->bos), *eos = token_text(t, v->eos), *value;
    struct jinja_input in[OWN + VARIABLES_MAX] = {{"messages", r->messages, false}, {"tools", r->tools, false}, {"bos_token", bos, true}, {"eos_token", eos, true},
                                                  {"add_generation_prompt", r->reply ? json_true() : json_false(), true}};
    const char *key;
    int n = OWN, rc = 0;
    json_object_foreach((json_t *)(uintptr_t)r->variables, key, value)
    {
        if (n == OWN + VARIABLES_MAX)
            rc = fail(err, ERR_USAGE, "chat: more than %d variables for the template", VARIABLES_MAX);
        else
            in[n++] = (struct jinja_input){key, value, false};
    }
    rc = rc ? rc : jinja_render(template, in, n, r->now, arena, out, err);
    json_decref(bos);
    json_decref(eos);
    return rc;
}

int chat_encode(const struct tokenizer *t, struct marked text, int32_t *out, int cap, struct error *err)
{
    int n = tokenizer_encode_marked(t, text.p, text.n, text.user, ENCODE_BOS | ENCODE_SPECIAL, out, cap, err);
    return n > 0 && tokenizer_vocab(t)->add_eos ? n - 1 : n;
}

int32_t chat_end(const struct jinja *template, const struct tokenizer *t, const struct chat_request *r)
{
    json_t *probe = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "user", "content", "x", "role", "assistant", "content", "x");
    struct chat_request ask = *r;
    struct arena arena = {0}; /* not the conversation's, whose memory is counted */
    struct marked text;
    struct error ignored;
    int32_t end = -1, token[64];
    ask.messages = probe;
    ask.reply = false;
    if (probe && !chat_render(template, t, &ask, &arena, &text, &ignored)) {
        size_t behind = text.n;
        while (behind > 0 && !(text.user && text.user[behind - 1]))
            behind--;
        int n = behind ? tokenizer_encode(t, text.p + behind, text.n - behind, ENCODE_SPECIAL, token, 64, &ignored) : 0;
        for (int i = 0; i < n && i < 64 && end < 0; i++)
            end = tokenizer_hidden(t, token[i]) ? token[i] : -1;
    }
    arena_free(&arena);
    json_decref(probe);
    return end;
}
