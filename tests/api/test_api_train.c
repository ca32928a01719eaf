/* SPDX-License-Identifier: Apache-2.0 */
/* Training through the public API, on the CPU: the real trainer under the real loop. */
#include "synthetic.h"

#include "base/file.h"

static const char words[] = "The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. ";

struct fixture {
    struct folder model; /* also holds the text and the runs, in its base folder */
    char text[80];
    const char *data[2];
};

static void fixture_make(struct fixture *f)
{
    folder_make_of(&f->model, &(lsk_synth_options){.shape = "tiny", .layers = 2, .dtype = "f32", .seed = 1, .threads = 1});
    snprintf(f->text, sizeof f->text, "%s/words.txt", f->model.base);
    FILE *out = fopen(f->text, "w");
    for (int i = 0; i < 60; i++)
        fprintf(out, "%s%d\n", words, i * i);
    fclose(out);
    f->data[0] = f->text;
    f->data[1] = NULL;
}

static void fixture_remove(struct fixture *f)
{
    char command[80];
    snprintf(command, sizeof command, "rm -rf '%s'", f->model.base);
    assert_int_equal(system(command), 0);
}

struct seen {
    int stop_at, steps, looks, saves, notes;
    double first, last, first_agree, last_agree;
};

static int see(void *ud, const lsk_train_event *e)
{
    struct seen *s = ud;
    s->steps += e->kind == LSK_TRAIN_STEPPED;
    s->saves += e->kind == LSK_TRAIN_SAVED;
    s->notes += e->kind == LSK_TRAIN_NOTE;
    if (e->kind == LSK_TRAIN_LOOKED) {
        if (!s->looks++) {
            s->first = e->loss;
            s->first_agree = e->point[0].agree;
        }
        s->last = e->loss;
        s->last_agree = e->point[0].agree;
        assert_int_equal(e->point[e->n - 1].layer, 2);
    }
    return s->stop_at && e->step >= s->stop_at;
}

static lsk_train_options options_of(const struct fixture *f, const char *recipe, const char *folder, int steps)
{
    return (lsk_train_options){.recipe = recipe, .folder = folder, .data = f->data, .steps = steps, .batch = 2, .length = 16, .seed = 9, .rate = 2e-3, .held_out = 0.05,
                               .look_every = 50, .look_blocks = 8, .save_every = 60, .threads = 1};
}

static int train(const struct fixture *f, const lsk_train_options *o, struct seen *s)
{
    lsk_error err = {0};
    int r = lsk_train(f->model.path, o, see, s, &err);
    if (r < 0)
        fail_msg("%s", err.text);
    return r;
}

static void same_files(const char *a, const char *b, const char *name)
{
    char path[160], *p, *q;
    size_t n, m;
    snprintf(path, sizeof path, "%s/%s", a, name);
    assert_int_equal(file_slurp(path, 1 << 26, &p, &n, NULL), 0);
    snprintf(path, sizeof path, "%s/%s", b, name);
    assert_int_equal(file_slurp(path, 1 << 26, &q, &m, NULL), 0);
    if (n != m || memcmp(p, q, n))
        fail_msg("%s differs", name);
    free(p);
    free(q);
}

/* 200 steps twice give the same bits; so do 200 steps that were interrupted after 77. The model learns the text, and what comes out is a model. */
static void the_same_bits(void **state)
{
    (void)state;
    static const char *const recipes[] = {"layerskip-llama2-7b", "distill"};
    for (int i = 0; i < 2; i++) {
        struct fixture f;
        char a[80], b[80], c[80], last[120];
        const int steps = SANITIZED ? 20 : 200;
        fixture_make(&f);
        snprintf(a, sizeof a, "%s/a", f.model.base);
        snprintf(b, sizeof b, "%s/b", f.model.base);
        snprintf(c, sizeof c, "%s/c", f.model.base);
        snprintf(last, sizeof last, "step-%06d/trainer/model.safetensors", steps);
        lsk_train_options o = options_of(&f, recipes[i], a, steps);
        o.layer_dropout = i ? 0 : 0.3;
        o.threads = 1 + i;
        struct seen s = {0}, cut = {.stop_at = steps * 77 / 200};
        assert_int_equal(train(&f, &o, &s), 0);
        assert_int_equal(s.steps, steps);
        if (!SANITIZED && !i)
            assert_true(s.last < s.first - 1);
        if (!SANITIZED && i)
            assert_true(s.last_agree > s.first_agree);
        o.folder = b;
        assert_int_equal(train(&f, &o, &(struct seen){0}), 0);
        same_files(a, b, last);
        o.folder = c;
        assert_int_equal(train(&f, &o, &cut), 1);
        o.resume = 1;
        o.data = NULL;
        assert_int_equal(train(&f, &o, &(struct seen){0}), 0);
        same_files(a, c, last);
        snprintf(last, sizeof last, "%s/step-%06d", a, steps);
        lsk_error err = {0};
        lsk_model *m = lsk_model_open(last, &(lsk_model_options){.device = "cpu"}, &err);
        if (!m)
            fail_msg("%s", err.text);
        assert_int_equal(lsk_model_about(m)->exit_layer, 1);
        lsk_model_close(m);
        fixture_remove(&f);
    }
}

static void refuses(const struct fixture *f, const lsk_train_options *o, int code, const char *what)
{
    lsk_error err = {0};
    assert_int_equal(lsk_train(f->model.path, o, NULL, NULL, &err), code);
    if (!strstr(err.text, what))
        fail_msg("\"%s\" does not say %s", err.text, what);
}

static void refuses_nonsense(void **state)
{
    (void)state;
    struct fixture f;
    char a[80];
    fixture_make(&f);
    snprintf(a, sizeof a, "%s/a", f.model.base);
    const lsk_train_options good = options_of(&f, "plain", a, 2);
    lsk_train_options o = good;
    o.recipe = "none";
    refuses(&f, &o, LSK_EUSAGE, "recipe none: must be one of distill, plain, layerskip-llama2-7b");
    o.recipe = NULL;
    refuses(&f, &o, LSK_EUSAGE, "recipe (none)");
    o = good;
    o.folder = NULL;
    refuses(&f, &o, LSK_EUSAGE, "no folder");
    o = good;
    o.data = NULL;
    refuses(&f, &o, LSK_EUSAGE, "no text to train on");
    o = good;
    o.document_end = "<no such token>";
    refuses(&f, &o, LSK_EUSAGE, "document end \"<no such token>\"");
    o = good;
    o.n_exits = 17;
    refuses(&f, &o, LSK_EUSAGE, "17 exit layers");
    o = good;
    o.exits = (const int[]){2};
    o.n_exits = 1;
    refuses(&f, &o, LSK_EUSAGE, "exit layer 2");
    o = good;
    o.rate = 2;
    refuses(&f, &o, LSK_EUSAGE, "learning rate 2");
    o = good;
    o.device = "abacus";
    refuses(&f, &o, LSK_EUSAGE, "abacus");
    lsk_error err = {0};
    assert_int_equal(lsk_train("/tmp/lsk-there-is-no-such-model", &good, NULL, NULL, &err), LSK_ENOINPUT);
    fixture_remove(&f);
}

static int count(void *ud, const lsk_train_event *e)
{
    *(int *)ud += e->kind == LSK_TRAIN_NOTE && strstr(e->text, "line 2") != NULL;
    return 0;
}

/* Bad rows are events; a run without a number of steps is one pass. */
static void rows_and_passes(void **state)
{
    (void)state;
    struct fixture f;
    char a[80], rows[80];
    lsk_error err = {0};
    int notes = 0;
    fixture_make(&f);
    snprintf(a, sizeof a, "%s/a", f.model.base);
    snprintf(rows, sizeof rows, "%s/rows.jsonl", f.model.base);
    FILE *out = fopen(rows, "w");
    fputs("{\"text\": \"a row of text that is long enough for some blocks of it\"}\nnot a row\n{\"prompt\": \"what comes now?\", \"response\": \"an answer, and a long one too\"}\n", out);
    fclose(out);
    f.data[0] = rows;
    lsk_train_options o = options_of(&f, "plain", a, 0);
    o.bad_rows = 1;
    o.keep = -1;
    o.save_every = 1;
    o.document_end = "</s>";
    if (lsk_train(f.model.path, &o, count, &notes, &err))
        fail_msg("%s", err.text);
    assert_int_equal(notes, 1);
    /* 2 begins, 2 ends and 110 bytes: 7 blocks of 16, one held out, two in a step */
    char path[120];
    snprintf(path, sizeof path, "%s/step-000003", a);
    assert_int_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/step-000004", a);
    assert_int_not_equal(access(path, F_OK), 0);
    fixture_remove(&f);
}

static void recipes_have_names(void **state)
{
    (void)state;
    const char *help = NULL;
    assert_string_equal(lsk_recipe(0, &help), "distill");
    assert_true(help && *help);
    assert_null(lsk_recipe(-1, NULL));
    assert_null(lsk_recipe(1000, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_bits), cmocka_unit_test(refuses_nonsense), cmocka_unit_test(rows_and_passes), cmocka_unit_test(recipes_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
