/* SPDX-License-Identifier: Apache-2.0 */
#include "toy_run.h"

#include "format/make_files.h"
#include "train/export.h"

static struct export export_of(const struct model *m, struct trainer **t, enum dtype type)
{
    struct error err = {0};
    struct train_options o = {.batch = 1, .length = 8};
    *t = toy_open(m, &o, &err);
    assert_non_null(*t);
    return (struct export){.model = m, .ops = &toy_ops, .trainer = *t, .type = type, .exit_layer = 1, .num_speculations = 5};
}

/* The same model, weights rounded to the type. */
static void same_model(const struct model *a, const struct model *b, enum dtype type)
{
    struct error err = {0};
    for (int i = 0; i < a->file->n_views; i++) {
        const struct view *v = &a->file->view[i], *w = checkpoint_find(b->file, v->name);
        if (!w || w->type != type || w->rank != v->rank || w->dim[0] != v->dim[0] || w->dim[1] != v->dim[1])
            fail_msg("%s is not as it was", v->name);
        const uint64_t n = v->dim[0] * v->dim[1];
        char *raw = malloc(v->bytes), *got = malloc(w->bytes), *want = malloc(w->bytes);
        float *value = malloc(n * sizeof *value);
        assert_int_equal(checkpoint_read_rows(a->file, v, 0, v->dim[0], raw, &err), 0);
        assert_int_equal(checkpoint_read_rows(b->file, w, 0, w->dim[0], got, &err), 0);
        dtype_to_f32(v->type, raw, value, n);
        dtype_from_f32(type, value, want, n);
        assert_memory_equal(got, want, w->bytes);
        free(raw);
        free(got);
        free(want);
        free(value);
    }
}

static void same_tokens(const struct model *a, const struct model *b, const char *text)
{
    struct error err = {0};
    int32_t x[64], y[64];
    int n = tokenizer_encode(a->tokenizer, text, strlen(text), ENCODE_BOS | ENCODE_SPECIAL, x, 64, &err);
    assert_true(n > 0);
    assert_int_equal(tokenizer_encode(b->tokenizer, text, strlen(text), ENCODE_BOS | ENCODE_SPECIAL, y, 64, &err), n);
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
}

static void a_folder_keeps_what_it_was(void **state)
{
    (void)state;
    static const char *const shapes[] = {"tiny", "tiny-tied", "tiny-bias", "tiny-llama3"};
    const enum dtype types[] = {DT_F32, DT_BF16, DT_F16, DT_BF16};
    for (int i = 0; i < 4; i++) {
        char path[160];
        const char *out = made(shapes[i]);
        struct model a, b;
        struct trainer *t;
        struct error err = {0};
        synthetic_path(path, sizeof path, shapes[i], "f32");
        assert_int_equal(model_open(&a, path, NULL, &err), 0);
        struct export e = export_of(&a, &t, types[i]);
        assert_int_equal(export_check(&a, &err), 0);
        assert_int_equal(mkdir(out, 0777), 0);
        if (export_write(&e, out, &err) || model_open(&b, out, NULL, &err))
            fail_with(err.text);
        same_model(&a, &b, types[i]);
        same_tokens(&a, &b, "Some text, <s> and more.");
        assert_int_equal(b.config.exit_layer, 1);
        assert_int_equal(b.config.num_speculations, 5);
        assert_true(a.config.norm_eps == b.config.norm_eps && a.config.rope_theta == b.config.rope_theta && a.config.tied == b.config.tied && a.config.rope == b.config.rope);
        for (int k = 0; k < a.file->n_meta; k++) {
            const struct meta *m = &a.file->meta[k], *now = checkpoint_meta(b.file, m->key);
            if (!now || (strcmp(m->key, "torch_dtype") && m->type == META_INT && now->i != m->i))
                fail_msg("key %s is not as it was", m->key);
        }
        toy_close(t);
        model_close(&a);
        model_close(&b);
    }
}

/* A file that carries its own vocabulary: a GPT-2 kind. */
static const char *make_gpt2(const char *name, const char *pre, unsigned add_bos, int rope_factors)
{
    struct gguf_parts g = gguf_model("none");
    char text[16];
    kv_text(&g, "tokenizer.ggml.model", "gpt2");
    kv_text(&g, "tokenizer.ggml.pre", pre);
    kv_array(&g, "tokenizer.ggml.tokens", G_TEXT, M_VOCAB);
    static const char *const first[] = {"<s>", "</s>", "<tool>", "th", "the", ("\xc4\xa0" "the"), "\xc4\xa0"};
    for (int i = 0; i < M_VOCAB; i++) {
        snprintf(text, sizeof text, "%c", i - 7 < 26 ? 'a' + i - 7 : '0' + i - 33);
        put_text(&g.kv, i < 7 ? first[i] : i < 43 ? text : (const char *[]){",", ".", "!", "?", "-"}[i - 43]);
    }
    kv_array(&g, "tokenizer.ggml.token_type", G_I32, M_VOCAB);
    for (int i = 0; i < M_VOCAB; i++)
        put_u32(&g.kv, i < 2 ? 3 : i == 2 ? 4 : 1);
    kv_array(&g, "tokenizer.ggml.merges", G_TEXT, 3);
    put_text(&g.kv, "t h");
    put_text(&g.kv, "th e");
    put_text(&g.kv, "\xc4\xa0 the");
    kv_u32(&g, "tokenizer.ggml.bos_token_id", 0);
    kv_u32(&g, "tokenizer.ggml.eos_token_id", 1);
    kv_bool(&g, "tokenizer.ggml.add_bos_token", add_bos);
    kv_text(&g, "tokenizer.chat_template", "{{ messages }}");
    if (rope_factors) {
        pad_to(&g.data, 32);
        tensor_info(&g, "rope_freqs.weight", 0, g.data.n, 1, (uint64_t)M_HEAD / 2);
        for (int i = 0; i < M_HEAD / 2; i++)
            put_f32(&g.data, 1);
    }
    return make_gguf(name, &g);
}

static void a_gguf_file_becomes_a_folder(void **state)
{
    (void)state;
    static const char *const pre[] = {"gpt-2", "smollm"};
    for (unsigned i = 0; i < 2; i++) {
        struct model a, b;
        struct trainer *t;
        struct error err = {0};
        char out[200];
        if (model_open(&a, make_gpt2(i ? "a.gguf" : "b.gguf", pre[i], i, 0), NULL, &err))
            fail_with(err.text);
        snprintf(out, sizeof out, "%s", made(pre[i]));
        assert_int_equal(export_check(&a, &err), 0);
        assert_int_equal(mkdir(out, 0777), 0);
        struct export e = export_of(&a, &t, DT_F32);
        if (export_write(&e, out, &err) || model_open(&b, out, NULL, &err))
            fail_with(err.text);
        same_model(&a, &b, DT_F32);
        same_tokens(&a, &b, "the then, <s>hat<tool> 2024 the");
        assert_true(a.config.norm_eps != 1e-5 && b.config.norm_eps == 1e-5 && (float)a.config.norm_eps == (float)b.config.norm_eps);
        assert_int_equal(b.vocab.add_bos, i);
        assert_int_equal(b.vocab.bos, 0);
        assert_true(b.config.n_eos == 1 && b.config.eos[0] == 1 && b.config.bos == 0 && b.config.exit_layer == 1);
        assert_string_equal(b.file->chat_template, "{{ messages }}");
        toy_close(t);
        model_close(&a);
        model_close(&b);
    }
}

static void refused(const char *path, const char *what)
{
    struct model m;
    struct error err = {0};
    if (model_open(&m, path, NULL, &err))
        fail_with(err.text);
    assert_int_equal(export_check(&m, &err), ERR_CONFIG);
    if (!strstr(err.text, what) || !strstr(err.text, "Hugging Face folder instead"))
        fail_msg("\"%s\" does not say %s", err.text, what);
    model_close(&m);
}

static void what_cannot_be_written_is_refused_first(void **state)
{
    (void)state;
    refused(make_gpt2("c.gguf", "llama-bpe", 0, 0), "tokenizer llama-bpe");
    refused(make_gpt2("d.gguf", "smollm", 0, 1), "rope_freqs");
}

/* No file appears where one could not be written. */
static void no_folder_to_write_to(void **state)
{
    (void)state;
    char path[160];
    struct model a;
    struct trainer *t;
    struct error err = {0};
    synthetic_path(path, sizeof path, "tiny", "f32");
    assert_int_equal(model_open(&a, path, NULL, &err), 0);
    struct export e = export_of(&a, &t, DT_F32);
    assert_int_equal(export_write(&e, made("missing"), &err), ERR_CREATE);
    assert_int_equal(export_type(&a), DT_F32);
    toy_close(t);
    model_close(&a);
}

static int remove_all(void **state)
{
    remove_dir(state);
    return synthetic_cleanup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_keeps_what_it_was), cmocka_unit_test(a_gguf_file_becomes_a_folder), cmocka_unit_test(what_cannot_be_written_is_refused_first),
        cmocka_unit_test(no_folder_to_write_to),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_all);
}
