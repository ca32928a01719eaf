/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "check.h"
#include "results.h"

static lsk_error err;
static char path[] = "/tmp/results.XXXXXX";

static int make_file(void **state)
{
    (void)state;
    strcpy(path, "/tmp/results.XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct result result(int i)
{
    struct result one = {.line = 10 + i, .rounds = 2, .drafted = i ? 4 : 0, .accepted = i, .bleu = {{4, 3, 2, 1}, {4, 3, 2, 1}, 4, 4}};
    for (int k = 0; k < N_FIGURES; k++)
        one.figure[k] = i + k * .125;
    one.figure[ACCEPTANCE_RATE] = i ? i / 4.0 : NAN;
    one.figure[PASS] = NAN;
    return one;
}

static void add(struct results *all, int from, int to)
{
    for (int i = from; i < to; i++) {
        const struct result one = result(i);
        struct record texts = {0};
        record_text(&texts, "reply", "a \"reply\"\n");
        assert_int_equal(results_add(all, &one, &texts, &err), 0);
    }
}

static void assert_same(const struct result *a, const struct result *b)
{
    assert_int_equal(a->line, b->line);
    assert_int_equal(a->rounds, b->rounds);
    assert_int_equal(a->drafted, b->drafted);
    assert_int_equal(a->accepted, b->accepted);
    assert_memory_equal(&a->bleu, &b->bleu, sizeof a->bleu);
    for (int k = 0; k < N_FIGURES; k++)
        assert_true(isnan(a->figure[k]) ? isnan(b->figure[k]) : fabs(a->figure[k] - b->figure[k]) < 1e-9);
}

static void goes_on_where_it_ended(void **state)
{
    struct results all;
    (void)state;
    assert_int_equal(results_open(&all, path, "{\"run\": 1}", &err), 0);
    assert_int_equal(all.n, 0);
    add(&all, 0, 3);
    results_close(&all);
    assert_int_equal(results_open(&all, path, "{\"run\": 1}", &err), 0);
    assert_int_equal(all.n, 3);
    struct results other;
    assert_int_equal(results_open(&other, path, "{\"run\": 1}", &err), LSK_EIO);
    assert_non_null(strstr(err.text, "another run is writing it"));
    results_close(&other);
    add(&all, 3, 4);
    results_close(&all);
    assert_int_equal(results_open(&all, path, "{\"run\": 1}", &err), 0);
    assert_int_equal(all.n, 4);
    for (int i = 0; i < 4; i++) {
        const struct result want = result(i);
        assert_same(&all.item[i], &want);
    }
    results_close(&all);
}

static void a_line_that_was_cut_off_is_dropped(void **state)
{
    struct results all;
    struct stat st;
    (void)state;
    assert_int_equal(results_open(&all, path, "{}", &err), 0);
    add(&all, 0, 2);
    results_close(&all);
    for (int cut = 1; cut < 300; cut += 37) {
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(truncate(path, st.st_size - cut), 0);
        assert_int_equal(results_open(&all, path, "{}", &err), 0);
        assert_int_equal(all.n, 1);
        add(&all, 1, 2);
        results_close(&all);
    }
    assert_int_equal(truncate(path, 1), 0); /* the first line itself */
    assert_int_equal(results_open(&all, path, "{}", &err), 0);
    assert_int_equal(all.n, 0);
    add(&all, 0, 1);
    results_close(&all);
}

static void what_is_no_result_is_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {{"{\"other\": 1}\n", "line 1: another run's results"}, {"{}\nno json\n", "line 2: no result of sample 0"}, {"{}\n[]\n", "line 2"}, {"{}\n{\"sample\": 0}\n", "line 2"}};
    struct results all;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file(cases[i].text);
        assert_int_equal(results_open(&all, path, "{}", &err), LSK_EDATA);
        assert_non_null(strstr(err.text, cases[i].why));
        results_close(&all);
    }
    write_file("");
    assert_int_equal(results_open(&all, path, "{}", &err), 0);
    add(&all, 0, 2);
    results_close(&all);
    char *text = NULL;
    size_t n = 0;
    FILE *f = fopen(path, "r");
    assert_true(getdelim(&text, &n, 0, f) > 0);
    fclose(f);
    char *second = strstr(text, "\"sample\": 1");
    second[10] = '7'; /* a result of another place */
    write_file(text);
    assert_int_equal(results_open(&all, path, "{}", &err), LSK_EDATA);
    assert_non_null(strstr(err.text, "line 3: no result of sample 1"));
    results_close(&all);
    free(text);
    assert_int_equal(results_open(&all, "/nonexistent/x", "{}", &err), LSK_ECREATE);
    results_close(&all);
}

static void sums(void **state)
{
    struct results all;
    struct record facts = {0};
    char *text = NULL;
    size_t n = 0;
    (void)state;
    assert_int_equal(results_open(&all, path, "{}", &err), 0);
    add(&all, 0, 5);
    record_text(&facts, "model", "m");
    FILE *f = open_memstream(&text, &n);
    results_json(f, &all, 3, &facts); /* of the first three: 0, 1, 2 */
    fclose(f);
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *metrics = json_object_get(j, "metrics"), *texts = json_object_get(metrics, "predicted_text");
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "model")), "m");
    assert_int_equal(json_integer_value(json_object_get(j, "samples")), 3);
    assert_int_equal(json_integer_value(json_object_get(j, "drafted")), 8);
    json_t *rate = json_object_get(metrics, "acceptance_rate");
    assert_true(fabs(json_number_value(json_object_get(rate, "mean")) - .375) < 1e-9); /* the first has none */
    assert_true(fabs(json_number_value(json_object_get(rate, "of_all_drafts")) - .375) < 1e-9);
    assert_true(fabs(json_number_value(json_object_get(rate, "sd")) - sqrt(.03125)) < 1e-9);
    assert_true(fabs(json_number_value(json_object_get(texts, "rouge-1")) - (1 + TEXT_ROUGE_1 * .125)) < 1e-9);
    assert_true(fabs(json_number_value(json_object_get(texts, "bleu_score")) - 100) < 1e-9);
    assert_true(json_is_null(json_object_get(texts, "pass@1")));
    json_decref(j);
    free(text);
    f = open_memstream(&text, &n);
    results_json(f, &all, 0, &facts);
    fclose(f);
    assert_non_null(j = json_loads(text, JSON_REJECT_DUPLICATES, NULL));
    json_decref(j);
    free(text);
    f = open_memstream(&text, &n);
    results_table(f, &all, 3);
    fclose(f);
    char want[160];
    snprintf(want, sizeof want, "\n%-28s  %10s  %10s  %10s  %10s\n", "acceptance rate", "0.375", "0.177", "0.250", "0.500");
    assert_non_null(strstr(text, want));
    snprintf(want, sizeof want, "\n%-28s  %10s\n", "BLEU of all together", "100.00");
    assert_non_null(strstr(text, want));
    assert_null(strstr(text, "pass@1"));
    assert_non_null(strstr(text, "drafts: 3 accepted of 8, 0.375, in 6 rounds\n"));
    free(text);
    results_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(goes_on_where_it_ended, make_file, remove_file),
        cmocka_unit_test_setup_teardown(a_line_that_was_cut_off_is_dropped, make_file, remove_file),
        cmocka_unit_test_setup_teardown(what_is_no_result_is_refused, make_file, remove_file),
        cmocka_unit_test_setup_teardown(sums, make_file, remove_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
