/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints written as GGUF: the same config, the same tokens and, wherever the types are the same, the same logits in every bit. */
#include <glob.h>
#include <math.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "synthetic.h"

#include "base/dtype.h"
#include "base/half.h"
#include "model/model.h"
#include "model/quantize_keys.h"

enum { TOKENS = 24 };

/* ---- conversion ---- */

struct outcome {
    lsk_quantize_row row[16];
    int n, notes;
    char note[300];
};

static void take_row(void *ud, const lsk_quantize_row *r)
{
    struct outcome *o = ud;
    o->row[o->n++] = *r;
}

static void take_note(void *ud, const char *line)
{
    struct outcome *o = ud;
    o->notes++;
    snprintf(o->note, sizeof o->note, "%s", line);
}

static const char *beside(const struct folder *f, const char *name)
{
    static char path[32][96];
    static int turn;
    turn = (turn + 1) % 32;
    snprintf(path[turn], sizeof path[turn], "%s/%s", f->base, name);
    return path[turn];
}

static int convert(const char *in, const char *out, lsk_quantize_options o, struct outcome *to, lsk_error *err)
{
    *to = (struct outcome){0};
    o.row = take_row;
    o.note = take_note;
    o.report_ud = to;
    o.threads = o.threads ? o.threads : 2;
    return lsk_quantize(in, out, &o, err);
}

static void must_convert(const char *in, const char *out, lsk_quantize_options o, struct outcome *to)
{
    lsk_error err = {0};
    if (convert(in, out, o, to, &err) != 1)
        fail_msg("%s: %s", in, err.text);
}

/* Fails with this code and words, and there is no such file. */
static void must_refuse(const char *in, const char *out, lsk_quantize_options o, int code, const char *word)
{
    lsk_error err = {0};
    struct outcome to;
    int rc = convert(in, out, o, &to, &err);
    if (rc != code || !strstr(err.text, word))
        fail_msg("wanted %d \"%s\", got %d: %s", code, word, rc, err.text);
    assert_int_equal(to.n, 0);
    if (out)
        assert_int_equal(access(out, F_OK), -1);
}

static const lsk_quantize_row *row_of(const struct outcome *o, const char *kind)
{
    for (int i = 0; i < o->n; i++)
        if (!strcmp(o->row[i].kind, kind))
            return &o->row[i];
    return NULL;
}

static void remove_files(struct folder *f)
{
    DIR *d = opendir(f->base);
    for (struct dirent *e; d && (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0); /* folders refuse */
    closedir(d);
    folder_remove(f); /* fails when something is left */
}

/* ---- comparison ---- */

static int keep_logits(void *ud, int i, const float *logits, int n_vocab)
{
    memcpy((float *)ud + (size_t)i * (size_t)n_vocab, logits, (size_t)n_vocab * sizeof *logits);
    return 0;
}

/* f32[TOKENS][vocab]; the caller frees it. */
static float *logits_of(const char *path, const char *weights, const char *compute, lsk_model_info *info)
{
    lsk_error err = {0};
    lsk_model *m = lsk_model_open(path, &(lsk_model_options){.device = "cpu", .weights = weights, .compute = compute, .threads = 1, .context = 64}, &err);
    if (!m)
        fail_msg("%s: %s", path, err.text);
    lsk_session *s = must_session(m);
    *info = *lsk_model_about(m);
    float *out = malloc(sizeof *out * TOKENS * (size_t)info->n_vocab);
    int32_t tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = (i * 37 + 3) % info->n_vocab;
    assert_non_null(out);
    assert_int_equal(lsk_score(s, tokens, TOKENS, 0, keep_logits, out, &err), 0);
    lsk_session_close(s);
    lsk_model_close(m);
    return out;
}

/* The largest difference of logits. */
static float compare(const char *a, const char *weights, const char *b, const char *compute)
{
    lsk_model_info x, y;
    float *p = logits_of(a, weights, compute, &x), *q = logits_of(b, NULL, compute, &y), most = 0;
    assert_int_equal(x.n_vocab, y.n_vocab);
    assert_int_equal(x.n_layers, y.n_layers);
    assert_int_equal(x.tied, y.tied);
    for (size_t i = 0; i < (size_t)TOKENS * (size_t)x.n_vocab; i++)
        most = fabsf(p[i] - q[i]) > most ? fabsf(p[i] - q[i]) : most;
    bool same = !memcmp(p, q, sizeof *p * TOKENS * (size_t)x.n_vocab);
    assert_int_equal(same, most == 0);
    free(p);
    free(q);
    return most;
}

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    char *p = malloc(*n + 1);
    assert_non_null(p);
    rewind(f);
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

static void assert_same_file(const char *a, const char *b)
{
    size_t n, m;
    char *p = slurp(a, &n), *q = slurp(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(p, q, n);
    free(p);
    free(q);
}

static const char *const shapes[] = {"tiny", "tiny-gqa", "tiny-tied", "tiny-llama3", "tiny-headdim", "tiny-bias"};

static void same_type_same_bits(void **state)
{
    (void)state;
    static const char *const types[] = {"f32", "f16", "bf16"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int t = 0; t < 3; t++) {
            struct folder f;
            struct outcome to;
            folder_make_of(&f, &(lsk_synth_options){.shape = shapes[i], .dtype = types[t], .threads = 1});
            must_convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = types[t]}, &to);
            assert_int_equal(to.notes, 0);
            if (compare(f.path, NULL, beside(&f, "x.gguf"), "native") != 0)
                fail_msg("%s %s: other logits", shapes[i], types[t]);
            assert_true(row_of(&to, "total")->rms_error == 0 && row_of(&to, "total")->max_error == 0);
            assert_int_equal(row_of(&to, "rope") != NULL, !strcmp(shapes[i], "tiny-llama3"));
            assert_int_equal(row_of(&to, "biases") != NULL, !strcmp(shapes[i], "tiny-bias"));
            assert_int_equal(row_of(&to, "head") == NULL, !strcmp(shapes[i], "tiny-tied"));
            remove_files(&f);
        }
}

/* Wider types hold all values; with float activations the products are the same then. */
static void wider_types_lose_nothing(void **state)
{
    (void)state;
    struct folder f;
    struct outcome to;
    folder_make(&f, "tiny-gqa");
    must_convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = "F32"}, &to); /* capitals too */
    assert_true(compare(f.path, NULL, beside(&f, "x.gguf"), "f32") == 0);
    assert_int_equal(row_of(&to, "q")->bytes_after, 2 * row_of(&to, "q")->bytes_before);
    remove_files(&f);
}

/* q8_0 and q4_0 are what loading with weights q8 and q4 makes of the same floats, head and embedding at 8 bits in both. */
static void quantising_before_or_while_loading_is_the_same(void **state)
{
    (void)state;
    static const char *const of[] = {"tiny-tied", "tiny-llama3"};
    for (int i = 0; i < 2; i++) {
        struct folder f;
        struct outcome to;
        folder_make(&f, of[i]);
        must_convert(f.path, beside(&f, "8.gguf"), (lsk_quantize_options){.type = "q8_0"}, &to);
        assert_true(compare(f.path, "q8", beside(&f, "8.gguf"), "native") == 0);
        must_convert(f.path, beside(&f, "4.gguf"), (lsk_quantize_options){.type = "q4_0"}, &to);
        assert_true(compare(f.path, "q4", beside(&f, "4.gguf"), "native") == 0);
        assert_string_equal(row_of(&to, "embed")->to, "Q8_0");
        assert_string_equal(row_of(&to, "up")->to, "Q4_0");
        must_convert(f.path, beside(&f, "1.gguf"), (lsk_quantize_options){.type = "q4_1"}, &to);
        assert_true(compare(f.path, "q4", beside(&f, "1.gguf"), "native") > 0);
        remove_files(&f);
    }
}

static void embedding_and_head_have_types_of_their_own(void **state)
{
    (void)state;
    struct folder f;
    struct outcome to;
    folder_make(&f, "tiny-llama3");
    must_convert(f.path, beside(&f, "a.gguf"), (lsk_quantize_options){.type = "q4_0", .embed_type = "q4_1", .output_type = "f16"}, &to);
    assert_string_equal(row_of(&to, "embed")->to, "Q4_1");
    assert_string_equal(row_of(&to, "head")->to, "F16");
    assert_string_equal(row_of(&to, "q")->to, "Q4_0");
    assert_string_equal(row_of(&to, "norms")->to, "F32");
    assert_string_equal(row_of(&to, "total")->to, "mixed");
    must_convert(f.path, beside(&f, "b.gguf"), (lsk_quantize_options){.type = "q4_0", .pure = 1}, &to);
    assert_string_equal(row_of(&to, "embed")->to, "Q4_0");
    assert_string_equal(row_of(&to, "head")->to, "Q4_0");
    must_convert(f.path, beside(&f, "c.gguf"), (lsk_quantize_options){.type = "q8_0", .output_type = "copy"}, &to);
    assert_string_equal(row_of(&to, "head")->to, "BF16");
    remove_files(&f);
    folder_make(&f, "tiny-tied");
    must_convert(f.path, beside(&f, "a.gguf"), (lsk_quantize_options){.type = "q4_0", .output_type = "f16"}, &to); /* the embedding is the head */
    assert_string_equal(row_of(&to, "embed")->to, "F16");
    must_refuse(f.path, beside(&f, "b.gguf"), (lsk_quantize_options){.type = "q4_0", .output_type = "f16", .embed_type = "q8_0"}, LSK_EUSAGE, "the embedding is the head");
    remove_files(&f);
}

/* Rows that make no blocks become F16, and the user hears of it. */
static void rows_without_whole_blocks_become_f16(void **state)
{
    (void)state;
    struct folder f;
    struct outcome to;
    folder_make(&f, "tiny"); /* down has rows of 176 */
    must_convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = "q8_0"}, &to);
    assert_string_equal(row_of(&to, "down")->to, "F16");
    assert_string_equal(row_of(&to, "up")->to, "Q8_0");
    assert_int_equal(to.notes, 1); /* for all layers */
    assert_non_null(strstr(to.note, "blk.0.ffn_down.weight and its like"));
    assert_non_null(strstr(to.note, "176"));
    assert_true(compare(f.path, NULL, beside(&f, "x.gguf"), "f32") > 0);
    remove_files(&f);
}

/* Types of 256: what has no whole blocks of them gets the next of 32, and the user hears of each kind. */
static void super_blocks_and_mixes(void **state)
{
    (void)state;
    static const struct {
        const char *type, *pure, *embed, *head, *q, *v, *down;
        int file_type;
    } want[] = {
        {"q4_k", NULL, "Q6_K", "Q6_K", "Q4_K", "Q4_K", "Q4_K", 15},    {"q6_k", NULL, "Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K", 18},
        {"Q4_K_M", NULL, "Q4_K", "Q6_K", "Q4_K", "mixed", "mixed", 15}, {"q4_k_s", NULL, "Q4_K", "Q6_K", "Q4_K", "Q6_K", "Q4_K", 14},
        {"q4_k_m", "pure", "Q4_K", "Q4_K", "Q4_K", "mixed", "mixed", 15},
    };
    struct folder f;
    struct outcome to;
    struct model m;
    folder_make(&f, "tiny-256");
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        must_convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = want[i].type, .pure = want[i].pure != NULL, .force = 1}, &to);
        assert_int_equal(to.notes, 0);
        assert_string_equal(row_of(&to, "embed")->to, want[i].embed);
        assert_string_equal(row_of(&to, "head")->to, want[i].head);
        assert_string_equal(row_of(&to, "q")->to, want[i].q);
        assert_string_equal(row_of(&to, "v")->to, want[i].v);
        assert_string_equal(row_of(&to, "down")->to, want[i].down);
        assert_true(row_of(&to, "q")->rms_error < (strcmp(want[i].q, "Q6_K") ? 0.08 : 0.02)); /* q4_1 has 0.09 here */
        assert_int_equal(model_open(&m, beside(&f, "x.gguf"), NULL, NULL), 0);
        assert_int_equal(checkpoint_meta(m.file, "general.file_type")->i, want[i].file_type);
        assert_string_equal(dtype_table[model_weight(&m, 2, W_V)->type].name, i ? "Q6_K" : "Q4_K");
        model_close(&m);
        assert_true(compare(f.path, NULL, beside(&f, "x.gguf"), "native") > 0);
    }
    must_convert(beside(&f, "x.gguf"), beside(&f, "y.gguf"), (lsk_quantize_options){.type = "copy"}, &to);
    assert_same_file(beside(&f, "x.gguf"), beside(&f, "y.gguf"));
    remove_files(&f);
    folder_make(&f, "tiny-llama3"); /* rows of 128, down's of 256 */
    must_convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = "q4_k_m"}, &to);
    assert_string_equal(row_of(&to, "q")->to, "Q4_1");
    assert_string_equal(row_of(&to, "head")->to, "Q8_0");
    assert_string_equal(row_of(&to, "down")->to, "mixed");
    assert_string_equal(row_of(&to, "v")->to, "mixed"); /* Q4_1 and Q8_0 */
    assert_int_equal(to.notes, 9); /* embed, head, q, k, v twice, o, gate, up */
    assert_non_null(strstr(to.note, "make no blocks of 256"));
    must_refuse(f.path, beside(&f, "y.gguf"), (lsk_quantize_options){.type = "q4_k", .output_type = "q4_k_m"}, LSK_EUSAGE, "output type \"q4_k_m\"");
    remove_files(&f);
}

/* What the report says, held to the values in the file. */
static void the_report_measures_the_file(void **state)
{
    (void)state;
    struct folder f;
    struct outcome to, one;
    struct model a, b;
    struct error err = {0};
    folder_make_of(&f, &(lsk_synth_options){.shape = "tiny-tied", .dtype = "f32", .threads = 1});
    must_convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = "q4_1", .pure = 1}, &to);
    must_convert(f.path, beside(&f, "y.gguf"), (lsk_quantize_options){.type = "q4_1", .pure = 1, .threads = 1}, &one);
    assert_int_equal(to.n, one.n);
    assert_true(row_of(&to, "total")->rms_error == row_of(&one, "total")->rms_error); /* whoever does which part */
    assert_int_equal(model_open(&a, f.path, NULL, &err), 0);
    assert_int_equal(model_open(&b, beside(&f, "x.gguf"), NULL, &err), 0);
    const struct view *x = checkpoint_find(a.file, "embed"), *y = checkpoint_find(b.file, "embed");
    uint64_t n = x->dim[0] * x->dim[1];
    float *p = malloc(n * 4), *q = malloc(n * 4);
    uint8_t *raw = malloc(n * 4);
    assert_true(p && q && raw);
    assert_int_equal(checkpoint_read_rows(a.file, x, 0, x->dim[0], p, &err), 0);
    assert_int_equal(checkpoint_read_rows(b.file, y, 0, y->dim[0], raw, &err), 0);
    dtype_to_f32(DT_Q4_1, raw, q, n);
    double square = 0, error = 0, most = 0;
    for (uint64_t i = 0; i < n; i++) {
        double e = fabs((double)p[i] - (double)q[i]);
        square += (double)p[i] * (double)p[i];
        error += e * e;
        most = e > most ? e : most;
    }
    const lsk_quantize_row *r = row_of(&to, "embed");
    assert_float_equal(r->rms_error, sqrt(error / square), 1e-6);
    assert_float_equal(r->max_error, most, 1e-6);
    assert_int_equal(r->values, n);
    assert_int_equal(r->bytes_before, n * 4);
    assert_int_equal(r->bytes_after, n / 32 * 20);
    assert_true(r->rms_error > 0.01);
    free(p);
    free(q);
    free(raw);
    model_close(&a);
    model_close(&b);
    remove_files(&f);
}

/* ---- config and keys ---- */

static void the_config_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct folder f;
        struct outcome to;
        struct model a, b;
        struct error err = {0};
        folder_make(&f, shapes[i]);
        folder_set(&f, "config.json", "layerskip", json_pack("{s:i, s:i, s:[i,i,i]}", "exit_layer", 2, "num_speculations", 5, "draft_tokens", 400, 3, 77));
        folder_set(&f, "config.json", "eos_token_id", json_pack("[i,i,i,i]", 2, 7, 9, 11)); /* more than GGUF's own keys can say */
        folder_set(&f, "config.json", "pad_token_id", json_integer(7));
        folder_set(&f, "generation_config.json", "do_sample", json_true());
        folder_set(&f, "generation_config.json", "temperature", json_real(0.6));
        folder_set(&f, "generation_config.json", "top_k", json_integer(40));
        folder_set(&f, "generation_config.json", "top_p", json_real(0.9));
        folder_set(&f, "tokenizer_config.json", "chat_template", json_string("{{ messages }}"));
        must_convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = "copy"}, &to);
        assert_int_equal(model_open(&a, f.path, NULL, &err), 0);
        assert_int_equal(model_open(&b, beside(&f, "x.gguf"), NULL, &err), 0);
        struct config x = a.config, y = b.config;
        assert_string_equal(x.family, y.family);
        assert_string_equal(y.name, "model"); /* the folder's */
        assert_true((float)x.norm_eps == (float)y.norm_eps && (float)x.rope_theta == (float)y.rope_theta);
        assert_true((x.rope == ROPE_LLAMA3) == y.rope_factors);
        assert_string_equal(b.file->chat_template, "{{ messages }}");
        assert_int_equal(checkpoint_meta(b.file, "tokenizer.ggml.padding_token_id")->i, 7);
        assert_int_equal(checkpoint_meta(b.file, "general.file_type")->i, 32);
        assert_true(x.n_draft_tokens == 3 && y.n_draft_tokens == 3);
        assert_memory_equal(x.draft_token, ((int64_t[]){400, 3, 77}), 3 * sizeof *x.draft_token);
        assert_memory_equal(x.draft_token, y.draft_token, 3 * sizeof *x.draft_token);
        /* what GGUF says otherwise, or more exactly than f32 */
        y.draft_token = x.draft_token;
        y.family = x.family, y.name = x.name, y.dtype = x.dtype, y.norm_eps = x.norm_eps, y.rope_theta = x.rope_theta;
        y.rope = x.rope, y.rope_factors = x.rope_factors, y.rope_context = x.rope_context, y.rope_factor = x.rope_factor, y.rope_low = x.rope_low, y.rope_high = x.rope_high;
        assert_memory_equal(&x, &y, sizeof x);
        model_close(&a);
        model_close(&b);
        remove_files(&f);
    }
}

static void linear_scaling_comes_back(void **state)
{
    (void)state;
    struct folder f;
    struct outcome to;
    folder_make(&f, "tiny");
    folder_set(&f, "config.json", "rope_scaling", json_pack("{s:s, s:f}", "rope_type", "linear", "factor", 2.5));
    must_convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = "copy"}, &to);
    assert_true(compare(f.path, NULL, beside(&f, "x.gguf"), "native") == 0);
    remove_files(&f);
}

/* Published scalings: of 32 and 64 frequencies each comes back within one unit in the last place, nearly all in every bit. */
static void scaled_frequencies_come_back(void **state)
{
    (void)state;
    static const struct config of[] = {
        {.head_dim = 64, .rope_theta = 5e5, .rope = ROPE_LLAMA3, .rope_factor = 32, .rope_low = 1, .rope_high = 4, .rope_context = 8192},
        {.head_dim = 128, .rope_theta = 5e5, .rope = ROPE_LLAMA3, .rope_factor = 8, .rope_low = 1, .rope_high = 4, .rope_context = 8192},
    };
    for (int i = 0; i < 2; i++) {
        struct model m = {.config = of[i]};
        struct error err = {0};
        float factor[64], want[64], plain[64];
        int exact = 0, n = of[i].head_dim / 2;
        assert_int_equal(quantize_rope(&m, factor, &err), 0);
        assert_int_equal(model_frequencies(&m, want, &err), 0);
        m.config.rope = ROPE_PLAIN;
        assert_int_equal(model_frequencies(&m, plain, &err), 0);
        for (int j = 0; j < n; j++) {
            int32_t off = (int32_t)(f32_bits(plain[j] / factor[j]) - f32_bits(want[j]));
            assert_true(off >= -1 && off <= 1);
            exact += off == 0;
        }
        assert_true(factor[0] == 1 && factor[n - 1] == (float)of[i].rope_factor);
        assert_in_range(exact, n - 2, n);
    }
}

/* ---- GGUF to GGUF ---- */

/* A copy of a file of ours has the same bytes, also by way of parts; other types follow from it as from the folder. */
static void copies_are_equal(void **state)
{
    (void)state;
    struct folder f;
    struct outcome to;
    lsk_error err = {0};
    folder_make(&f, "tiny-llama3");
    must_convert(f.path, beside(&f, "a.gguf"), (lsk_quantize_options){.type = "bf16"}, &to);
    must_convert(beside(&f, "a.gguf"), beside(&f, "b.gguf"), (lsk_quantize_options){.type = "copy"}, &to);
    assert_same_file(beside(&f, "a.gguf"), beside(&f, "b.gguf"));
    int parts = convert(beside(&f, "a.gguf"), beside(&f, "c.gguf"), (lsk_quantize_options){.type = "copy", .part_bytes = 300000}, &to, &err);
    assert_int_equal(parts, 6);
    must_convert(beside(&f, "c-00001-of-00006.gguf"), beside(&f, "d.gguf"), (lsk_quantize_options){.type = "copy"}, &to);
    assert_same_file(beside(&f, "a.gguf"), beside(&f, "d.gguf"));
    must_convert(f.path, beside(&f, "e.gguf"), (lsk_quantize_options){.type = "q8_0"}, &to);
    must_convert(beside(&f, "c-00001-of-00006.gguf"), beside(&f, "g.gguf"), (lsk_quantize_options){.type = "q8_0"}, &to);
    assert_same_file(beside(&f, "e.gguf"), beside(&f, "g.gguf"));
    must_refuse(beside(&f, "e.gguf"), beside(&f, "h.gguf"), (lsk_quantize_options){.type = "q4_0"}, LSK_EUSAGE, "--allow-requantize");
    must_convert(beside(&f, "e.gguf"), beside(&f, "h.gguf"), (lsk_quantize_options){.type = "q4_0", .allow_requantize = 1}, &to);
    must_convert(beside(&f, "e.gguf"), beside(&f, "i.gguf"), (lsk_quantize_options){.type = "f32"}, &to); /* that adds no error */
    remove_files(&f);
}

/* ---- what goes wrong ---- */

static int stop_at_once(void *ud, const char *what, uint64_t done, uint64_t total)
{
    (void)ud, (void)what;
    assert_in_range(done, 0, total);
    return 1;
}

/* The first call comes before a file is there. */
static int stop_later(void *ud, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    glob_t found = {0};
    glob(ud, 0, NULL, &found);
    assert_int_equal(found.gl_pathc, done ? 1 : 0);
    globfree(&found);
    assert_true(total > 0);
    return done > 0;
}

static void put_value(const struct folder *f, float value)
{
    int fd = open(folder_file(f, "model.safetensors"), O_RDWR);
    struct stat st;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pwrite(fd, &value, 4, st.st_size - 4), 4); /* the head's last */
    close(fd);
}

static void errors_leave_nothing(void **state)
{
    (void)state;
    struct folder f;
    struct outcome to;
    lsk_error err = {0};
    folder_make_of(&f, &(lsk_synth_options){.shape = "tiny", .dtype = "f32", .threads = 1});
    const char *out = beside(&f, "x.gguf");
    must_refuse(f.path, out, (lsk_quantize_options){.type = "q5_k"}, LSK_EUSAGE, "must be one of f32");
    must_refuse(f.path, out, (lsk_quantize_options){.type = NULL}, LSK_EUSAGE, "must be one of f32");
    must_refuse(f.path, out, (lsk_quantize_options){.type = "f16", .embed_type = "x"}, LSK_EUSAGE, "embedding type \"x\"");
    must_refuse(f.path, NULL, (lsk_quantize_options){.type = "f16"}, LSK_EUSAGE, "no output");
    must_refuse(beside(&f, "none"), out, (lsk_quantize_options){.type = "f16"}, LSK_ENOINPUT, "none");
    must_refuse(f.path, beside(&f, "no/x.gguf"), (lsk_quantize_options){.type = "f16"}, LSK_ECREATE, "no/x.gguf");
    must_refuse(f.path, out, (lsk_quantize_options){.type = "f16", .threads = 1, .progress = stop_at_once}, LSK_EUSAGE, "stopped");
    must_refuse(f.path, out, (lsk_quantize_options){.type = "f16", .threads = 1, .progress = stop_later, .progress_ud = (void *)beside(&f, "x.gguf*")}, LSK_EUSAGE, "stopped");
    put_value(&f, 1e5f);
    must_refuse(f.path, out, (lsk_quantize_options){.type = "f16"}, LSK_EDATA, "100000 is beyond the range of F16");
    put_value(&f, NAN);
    must_refuse(f.path, out, (lsk_quantize_options){.type = "q8_0"}, LSK_EDATA, "lm_head.weight");
    must_refuse(f.path, out, (lsk_quantize_options){.type = "f32"}, LSK_EDATA, "not finite");
    put_value(&f, 1);
    must_convert(f.path, out, (lsk_quantize_options){.type = "f16"}, &to);
    assert_int_equal(convert(f.path, out, (lsk_quantize_options){.type = "f16"}, &to, &err), LSK_ECREATE);
    assert_non_null(strstr(err.text, "exists"));
    must_convert(f.path, out, (lsk_quantize_options){.type = "f16", .force = 1}, &to);
    assert_int_equal(symlink("x.gguf", beside(&f, "link.gguf")), 0);
    assert_int_equal(convert(beside(&f, "link.gguf"), out, (lsk_quantize_options){.type = "f32", .force = 1}, &to, &err), LSK_EUSAGE);
    assert_non_null(strstr(err.text, "input and output are one file"));
    assert_int_equal(truncate(out, 100000), 0); /* a source that is cut off */
    must_refuse(out, beside(&f, "y.gguf"), (lsk_quantize_options){.type = "f32"}, LSK_EDATA, "x.gguf");
    remove_files(&f);
}

static void a_dry_run_only_reports(void **state)
{
    (void)state;
    struct folder f;
    struct outcome dry, real;
    lsk_error err = {0};
    folder_make(&f, "tiny-bias");
    assert_int_equal(convert(f.path, NULL, (lsk_quantize_options){.type = "q4_0", .dry_run = 1}, &dry, &err), 1);
    assert_int_equal(convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = "q4_0", .dry_run = 1, .part_bytes = 100000}, &dry, &err), 3);
    assert_int_equal(access(beside(&f, "x.gguf"), F_OK), -1);
    must_convert(f.path, beside(&f, "x.gguf"), (lsk_quantize_options){.type = "q4_0"}, &real);
    assert_int_equal(dry.n, real.n);
    for (int i = 0; i < dry.n; i++) {
        assert_string_equal(dry.row[i].kind, real.row[i].kind);
        assert_int_equal(dry.row[i].bytes_after, real.row[i].bytes_after);
        assert_true(dry.row[i].rms_error < 0 && real.row[i].rms_error >= 0);
    }
    remove_files(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_type_same_bits),
        cmocka_unit_test(wider_types_lose_nothing),
        cmocka_unit_test(quantising_before_or_while_loading_is_the_same),
        cmocka_unit_test(embedding_and_head_have_types_of_their_own),
        cmocka_unit_test(rows_without_whole_blocks_become_f16),
        cmocka_unit_test(super_blocks_and_mixes),
        cmocka_unit_test(the_report_measures_the_file),
        cmocka_unit_test(the_config_comes_back),
        cmocka_unit_test(linear_scaling_comes_back),
        cmocka_unit_test(scaled_frequencies_come_back),
        cmocka_unit_test(copies_are_equal),
        cmocka_unit_test(errors_leave_nothing),
        cmocka_unit_test(a_dry_run_only_reports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
