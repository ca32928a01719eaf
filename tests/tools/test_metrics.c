/* SPDX-License-Identifier: Apache-2.0 */
/* tests/tools/metrics.jsonl holds what rouge-score and sacrebleu give for 200 pairs of texts; test_metrics_package.py holds it to the packages. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "check.h"
#include "metrics.h"

static lsk_error err;

static void assert_near(double have, double want, const char *what, const char *text)
{
    if (!(fabs(have - want) <= 1e-9 * (1 + fabs(want))))
        fail_msg("%s is %.12f, not %.12f: %s", what, have, want, text);
}

static void as_the_packages_say(void **state)
{
    static const char *const names[N_ROUGE] = {"ROUGE-1", "ROUGE-2", "ROUGE-3", "ROUGE-L"};
    char *line = NULL;
    size_t cap = 0;
    int pairs = 0, corpora = 0;
    struct bleu all = {0};
    FILE *f = fopen("tests/tools/metrics.jsonl", "r");
    (void)state;
    assert_non_null(f);
    while (getline(&line, &cap, f) > 0) {
        json_t *row = json_loads(line, 0, NULL), *corpus = json_object_get(row, "corpus_bleu");
        const char *reference = json_string_value(json_object_get(row, "reference")), *reply = json_string_value(json_object_get(row, "reply"));
        double rouge[N_ROUGE];
        struct bleu b;
        assert_true(corpus || (reference && reply));
        if (corpus) {
            assert_near(bleu_score(&all, 0), json_real_value(corpus), "corpus BLEU", "all");
            corpora++;
        } else {
            assert_int_equal(rouge_scores(reference, reply, rouge, &err), 0);
            assert_int_equal(bleu_count(reference, reply, &b, &err), 0);
            for (int i = 0; i < N_ROUGE; i++)
                assert_near(rouge[i], json_number_value(json_array_get(json_object_get(row, "rouge"), (size_t)i)), names[i], line);
            assert_near(bleu_score(&b, 1), json_number_value(json_object_get(row, "bleu")), "BLEU", line);
            bleu_add(&all, &b);
            pairs++;
        }
        json_decref(row);
    }
    assert_int_equal(pairs, 200);
    assert_int_equal(corpora, 1);
    free(line);
    fclose(f);
}

static void a_corpus_without_long_runs_scores_nothing(void **state)
{
    struct bleu b, none = {0};
    (void)state;
    assert_int_equal(bleu_count("a b", "a b", &b, &err), 0);
    assert_near(bleu_score(&b, 1), 100, "a sentence of two words", "a b");
    assert_near(bleu_score(&b, 0), 0, "as a corpus", "a b");
    assert_near(bleu_score(&none, 0), 0, "nothing", "");
}

static void distance_counts_characters(void **state)
{
    static const struct {
        const char *a, *b;
        long far;
    } cases[] = {{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"日本語", "日本", 1}, {"größe", "grösse", 2}, {"ab", "ba", 2}, {"\xff\xfe", "\xff", 1}};
    long far;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(edit_distance(cases[i].a, cases[i].b, &far, &err), 0);
        assert_int_equal(far, cases[i].far);
    }
}

static void equal_texts_are_equal(void **state)
{
    (void)state;
    assert_int_equal(exact_match("yes", "yes"), 1);
    assert_int_equal(exact_match(" yes\n", "yes\xe3\x80\x80"), 1);
    assert_int_equal(exact_match("", " "), 1);
    assert_int_equal(exact_match("yes", "Yes"), 0);
    assert_int_equal(exact_match("yes", "yes."), 0);
    assert_int_equal(exact_match("a b", "a  b"), 0);
    assert_int_equal(exact_match("", "a"), 0);
}

static void repeated_runs_of_four(void **state)
{
    static const int32_t none[] = {1, 2, 3, 4, 5, 6, 7, 8}, one[] = {5, 5, 5, 5, 5, 5, 5}, turn[] = {1, 2, 3, 1, 2, 3, 1, 2, 3};
    double share;
    (void)state;
    assert_int_equal(repetition(none, 8, &share, &err), 0);
    assert_near(share, 0, "no run twice", "");
    assert_int_equal(repetition(one, 7, &share, &err), 0);
    assert_near(share, .75, "one run four times", "");
    assert_int_equal(repetition(turn, 9, &share, &err), 0);
    assert_near(share, .5, "three runs twice", "");
    assert_int_equal(repetition(none, 3, &share, &err), 0);
    assert_near(share, 0, "too short", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_packages_say),         cmocka_unit_test(a_corpus_without_long_runs_scores_nothing),
        cmocka_unit_test(distance_counts_characters),  cmocka_unit_test(equal_texts_are_equal),
        cmocka_unit_test(repeated_runs_of_four),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
