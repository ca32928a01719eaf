/* SPDX-License-Identifier: Apache-2.0 */
/* Rows become prompts and references as each task has them; which rows, the seed says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "terminal.h"
#include "testset.h"

static lsk_error err;
static char folder[] = "/tmp/testset.XXXXXX", path[64], shots[64], model_path[64];
static lsk_model *model;
static const struct prompt_args how = {.bos = 0};

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static struct testset_args arguments(const char *task)
{
    return (struct testset_args){.task = task, .path = path, .random_shuffle = -1, .data_seed = 42};
}

/* The first sample. */
static void gives(const struct testset_args *a, const char *text, const char *prompt, const char *reference)
{
    struct testset set;
    struct sample s;
    write_file(path, text);
    if (testset_open(&set, a, 0, &err) || testset_prepare(&set, model, &how, &err) || testset_sample(&set, model, &how, 0, &s, &err))
        fail_with(err.text);
    assert_string_equal(s.prompt, prompt);
    assert_string_equal(s.reference, reference);
    assert_true(s.n > 0 && s.n <= set.longest);
    sample_free(&s);
    testset_close(&set);
}

static void refuses(const struct testset_args *a, int code, const char *text, int status, const char *why)
{
    struct testset set;
    if (text)
        write_file(path, text);
    int r = testset_open(&set, a, code, &err);
    if (!r)
        r = testset_prepare(&set, model, &how, &err);
    testset_close(&set);
    assert_int_equal(r, status);
    if (!strstr(err.text, why) || strchr(err.text, '\n'))
        fail_msg("\"%s\", not \"%s\"", err.text, why);
}

static void every_task_has_its_layout(void **state)
{
    struct testset_args a = arguments("custom_jsonl");
    char text[1200] = "{\"article\": \"", *end = text + strlen(text), prompt[600] = "";
    (void)state;
    gives(&a, "{\"prompt\": \"p\", \"response\": \"r\"}\n", "p", "r");
    a = arguments("cnn_dm_summarization");
    gives(&a, "{\"id\": \"x\", \"article\": \"A.\", \"highlights\": \"H\\nI\"}\n", "Article: A.\nSummary:", " H\nI");
    a = arguments("xsum_summarization");
    gives(&a, "{\"document\": \"D\", \"summary\": \"S\", \"id\": \"1\"}\n", "Article: D\nSummary:", " S");
    a = arguments("human_eval");
    gives(&a, "{\"task_id\": \"HumanEval/0\", \"prompt\": \"def f():\\n\", \"canonical_solution\": \"    return 1\\n\"}\n", "def f():\n", "    return 1\n");
    a = arguments("top_v2");
    gives(&a, "{\"domain\": \"alarm\", \"utterance\": \"wake me\", \"semantic_parse\": \"[IN:X ]\"}\n", "wake me", "[IN:X ]");
    a = arguments("cnn_dm_lm");
    for (int i = 0; i < 103; i++)
        end += sprintf(end, "%sw%d", i ? i % 9 ? " " : "\\n " : "", i);
    strcpy(end, "\"}\n");
    for (int i = 0; i < 100; i++)
        sprintf(prompt + strlen(prompt), "%sw%d", i ? i % 9 ? " " : "\n " : "", i);
    gives(&a, text, prompt, "  w100 w101 w102");
    a.prompt_column = "text";
    memcpy(text, "{\"text\":    \"", 13);
    gives(&a, text, prompt, "  w100 w101 w102");
}

static void names_and_template_can_be_given(void **state)
{
    struct testset_args a = arguments("custom_jsonl");
    (void)state;
    a.prompt_column = "question";
    a.response_column = "answer";
    a.template = "Q: {message}\\nA:";
    gives(&a, "{\"question\": \"{message} 100%\", \"answer\": \"yes\"}\n", "Q: {message} 100%\nA:", "yes");
    a.template = "no place";
    refuses(&a, 0, NULL, LSK_EUSAGE, "has no {message}");
}

static void other_forms_are_read(void **state)
{
    struct testset_args a = arguments("top_v2");
    char tsv[80];
    (void)state;
    snprintf(tsv, sizeof tsv, "%s.tsv", path);
    a.path = tsv;
    write_file(tsv, "domain\tutterance\tsemantic_parse\nalarm\tSet \"it\"\t[IN:A ]\n");
    struct testset set;
    struct sample s;
    assert_int_equal(testset_open(&set, &a, 0, &err), 0);
    assert_int_equal(testset_prepare(&set, model, &how, &err), 0);
    assert_int_equal(testset_sample(&set, model, &how, 0, &s, &err), 0);
    assert_string_equal(s.prompt, "Set \"it\"");
    assert_int_equal(s.line, 2);
    sample_free(&s);
    testset_close(&set);
    unlink(tsv);
}

static void token_ids_are_taken_as_they_are(void **state)
{
    struct testset_args a = arguments("custom_jsonl");
    struct testset set;
    struct sample s;
    (void)state;
    write_file(path, "{\"prompt\": [1, 70, 71], \"response\": [72]}\n{\"prompt\": [70, 999999], \"response\": \"x\"}\n{\"prompt\": [-1], \"response\": \"x\"}\n{\"prompt\": [], \"response\": \"x\"}\n");
    assert_int_equal(testset_open(&set, &a, 0, &err), 0);
    assert_int_equal(testset_prepare(&set, model, &how, &err), 0);
    assert_int_equal(set.n, 1);
    assert_int_equal(set.n_bad, 3); /* line 2 needed the model to be seen through */
    assert_int_equal(set.bad[0], 3);
    assert_int_equal(set.bad[2], 2);
    assert_int_equal(testset_sample(&set, model, &how, 0, &s, &err), 0);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.token[0], 1);
    assert_int_equal(s.token[2], 71);
    size_t n;
    const char *piece = lsk_piece(model, 72, &n);
    assert_true(strlen(s.reference) == n && !memcmp(s.reference, piece, n));
    sample_free(&s);
    testset_close(&set);
    a.template = "x{message}";
    refuses(&a, 0, NULL, LSK_EDATA, "no row that can be used");
}

static void bad_rows_are_counted(void **state)
{
    struct testset_args a = arguments("custom_jsonl");
    struct testset set;
    (void)state;
    write_file(path, "{\"prompt\": \"a\", \"response\": \"b\"}\nno json\n{\"prompt\": \"a\"}\n{\"prompt\": \"\", \"response\": \"b\"}\n{\"prompt\": 7, \"response\": \"b\"}\n\n{\"prompt\": \"z\", \"response\": \"b\"}\n");
    assert_int_equal(testset_open(&set, &a, 0, &err), 0);
    assert_int_equal(set.n_rows, 2);
    assert_int_equal(set.n_bad, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(set.bad[i], i + 2);
    testset_close(&set);
    refuses(&a, 0, "{\"text\": \"a\", \"id\": 1}\n", LSK_EDATA, "line 1: no column \"prompt\": there are \"text\", \"id\"; --prompt-column and");
    refuses(&a, 0, "bad\n", LSK_EDATA, "neither JSONL");
    refuses(&a, 0, "{bad\n", LSK_EDATA, "no row that can be used");
    a.path = NULL;
    refuses(&a, 0, NULL, LSK_EUSAGE, "--data-path FILE");
    a.path = "/nonexistent.jsonl";
    refuses(&a, 0, NULL, LSK_ENOINPUT, "nonexistent.jsonl");
    a = arguments("cnn_dm_lm");
    refuses(&a, 0, "{\"article\": \"few words\"}\n", LSK_EDATA, "no row that can be used");
}

static void tests_are_wanted_of_code_alone(void **state)
{
    struct testset_args a = arguments("top_v2");
    struct testset set;
    struct sample s;
    (void)state;
    refuses(&a, 1, NULL, LSK_EUSAGE, "--dataset human_eval has them");
    a = arguments("human_eval");
    refuses(&a, 1, "{\"prompt\": \"def f():\\n\", \"canonical_solution\": \"    pass\\n\"}\n", LSK_EDATA, "no column \"test\"");
    a.template = "# {message}";
    write_file(path, "{\"prompt\": \"def f():\\n\", \"canonical_solution\": \"    pass\\n\", \"test\": \"def check(f): f()\", \"entry_point\": \"f\"}\n");
    assert_int_equal(testset_open(&set, &a, 1, &err), 0);
    assert_int_equal(testset_prepare(&set, model, &how, &err), 0);
    assert_int_equal(testset_sample(&set, model, &how, 0, &s, &err), 0);
    assert_string_equal(s.bare, "def f():\n");
    assert_string_equal(s.prompt, "# def f():\n");
    assert_string_equal(s.test, "def check(f): f()");
    assert_string_equal(s.entry_point, "f");
    sample_free(&s);
    testset_close(&set);
}

/* "p4p1p2...": the first letters and numbers of the prompts, after the shots. */
static void order_of(const struct testset_args *a, char *out)
{
    struct testset set;
    struct sample s;
    if (testset_open(&set, a, 0, &err) || testset_prepare(&set, model, &how, &err))
        fail_with(err.text);
    *out = 0;
    for (int i = 0; i < set.n; i++) {
        assert_int_equal(testset_sample(&set, model, &how, i, &s, &err), 0);
        strcat(out, strrchr(s.prompt, 'p'));
        sample_free(&s);
    }
    testset_close(&set);
}

static void the_seed_decides_on_the_order(void **state)
{
    struct testset_args a = arguments("custom_jsonl");
    char text[2000] = "", order[5][200];
    (void)state;
    for (int i = 0; i < 20; i++)
        sprintf(text + strlen(text), "{\"prompt\": \"p%d\", \"response\": \"r%d\"}\n", i, i);
    write_file(path, text);
    order_of(&a, order[0]);
    assert_string_equal(order[0], "p0p1p2p3p4p5p6p7p8p9p10p11p12p13p14p15p16p17p18p19");
    a.random_shuffle = 0;
    order_of(&a, order[0]);
    order_of(&a, order[1]);
    assert_string_equal(order[0], order[1]);
    assert_string_equal(order[0], "p5p8p15p2p9p4p16p3p19p18p11p14p6p12p13p10p0p7p17p1"); /* on every machine */
    a.data_seed = 43;
    order_of(&a, order[1]);
    assert_string_not_equal(order[0], order[1]);
    a.data_seed = 42;
    a.num_samples = 7; /* the first of the same */
    order_of(&a, order[1]);
    assert_true(!strncmp(order[0], order[1], strlen(order[1])) && strlen(order[1]) < strlen(order[0]));
}

static void shots_are_no_samples(void **state)
{
    struct testset_args a = arguments("cnn_dm_summarization");
    struct testset set;
    struct sample s;
    char text[800] = "", first[400], order[200];
    (void)state;
    for (int i = 0; i < 5; i++)
        sprintf(text + strlen(text), "{\"article\": \"p%d\", \"highlights\": \"h\\n%d\"}\n", i, i);
    write_file(path, text);
    write_file(shots, "{\"article\": \"s0\", \"highlights\": \"t\"}\n{\"article\": \"s1\", \"highlights\": \"t\"}\n");
    a.n_shot = 2;
    assert_int_equal(testset_open(&set, &a, 0, &err), 0);
    assert_int_equal(testset_prepare(&set, model, &how, &err), 0);
    assert_int_equal(set.n, 3);
    assert_int_equal(testset_sample(&set, model, &how, 0, &s, &err), 0);
    const int x = set.rows.order[0], y = set.rows.order[1];
    snprintf(first, sizeof first, "Article: p%d\nSummary: h %d\nArticle: p%d\nSummary: h %d\n\nArticle: p%lld\nSummary:", x, x, y, y, (long long)s.line - 1);
    assert_string_equal(s.prompt, first);
    assert_true(s.line - 1 != x && s.line - 1 != y);
    sample_free(&s);
    testset_close(&set);
    a.n_shot = 5;
    refuses(&a, 0, NULL, LSK_EUSAGE, "--n-shot: 5:");
    a.shots_path = shots;
    refuses(&a, 0, NULL, LSK_EUSAGE, "has 2 rows");
    a.n_shot = 1;
    order_of(&a, order);
    assert_int_equal(testset_open(&set, &a, 0, &err), 0);
    assert_int_equal(set.n_rows, 5);
    testset_close(&set);
    a.n_shot = 0;
    refuses(&a, 0, NULL, LSK_EUSAGE, "--shots-path without --n-shot");
}

static void prompts_that_are_too_long_are_bad(void **state)
{
    struct testset_args a = arguments("custom_jsonl");
    struct testset set;
    const int most = lsk_model_about(model)->context_max;
    FILE *f = fopen(path, "w");
    (void)state;
    fputs("{\"prompt\": \"ok\", \"response\": \"\"}\n{\"prompt\": [7", f);
    for (int i = 1; i < most; i++)
        fputs(", 7", f);
    fputs("], \"response\": \"\"}\n", f);
    fclose(f);
    assert_int_equal(testset_open(&set, &a, 0, &err), 0);
    assert_int_equal(testset_prepare(&set, model, &how, &err), 0);
    assert_int_equal(set.n, 1);
    assert_int_equal(set.n_bad, 1);
    testset_close(&set);
}

static void a_file_that_changes_is_noticed(void **state)
{
    struct testset_args a = arguments("custom_jsonl");
    struct testset set;
    struct sample s;
    (void)state;
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 2; i++) /* more than the C library keeps */
        fprintf(f, "{\"prompt\": \"a\", \"response\": \"%011000d\"}\n", i);
    fclose(f);
    assert_int_equal(testset_open(&set, &a, 0, &err), 0);
    assert_int_equal(testset_prepare(&set, model, &how, &err), 0);
    assert_int_equal(truncate(path, 20), 0);
    assert_int_equal(testset_sample(&set, model, &how, 1, &s, &err), LSK_EDATA);
    assert_non_null(strstr(err.text, "was changed meanwhile"));
    testset_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_has_its_layout),       cmocka_unit_test(names_and_template_can_be_given), cmocka_unit_test(other_forms_are_read),
        cmocka_unit_test(token_ids_are_taken_as_they_are), cmocka_unit_test(bad_rows_are_counted),            cmocka_unit_test(tests_are_wanted_of_code_alone),
        cmocka_unit_test(the_seed_decides_on_the_order),   cmocka_unit_test(shots_are_no_samples),            cmocka_unit_test(prompts_that_are_too_long_are_bad),
        cmocka_unit_test(a_file_that_changes_is_noticed),
    };
    char command[100];
    if (!mkdtemp(folder))
        return 1;
    snprintf(path, sizeof path, "%s/rows", folder);
    snprintf(shots, sizeof shots, "%s/shots", folder);
    snprintf(model_path, sizeof model_path, "%s/model", folder);
    snprintf(command, sizeof command, "rm -r %s", folder);
    if (lsk_synth(model_path, &(lsk_synth_options){.shape = "tiny"}, &err) || !(model = lsk_model_open(model_path, &(lsk_model_options){.load = LSK_LOAD_TOKENIZER}, &err))) {
        print_error("%s\n", err.text);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    lsk_model_close(model);
    return system(command) || failed;
}
