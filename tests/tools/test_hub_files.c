/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "hub_files.h"

static struct names all;
static struct model_files m;
static char others[200];
static lsk_error err;

/* Names parted by blanks; they stay until the next call. */
static void list(const char *names)
{
    char copy[4000];
    names_free(&all);
    strcpy(copy, names);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        assert_int_equal(names_add(&all, word, &err), 0);
    names_sort(&all);
}

/* "open: file file ..." of the choice, or its error's text. */
static const char *choose(const char *want)
{
    static char out[4000];
    int r = choose_model(&all, want, &m, others, sizeof others, &err);
    if (r < 0)
        return err.text;
    size_t n = (size_t)snprintf(out, sizeof out, "%s:", m.open);
    for (int i = 0; i < m.files.n; i++)
        n += (size_t)snprintf(out + n, sizeof out - n, " %s", m.files.name[i]);
    names_free(&m.files);
    return out;
}

static void types_are_read_from_names(void **state)
{
    (void)state;
    list("M-2.Q4_0.gguf m-iq4_xs.gguf m-Q4_K_M.gguf M-UD-Q8_K_XL.gguf m-BF16.gguf f16/m.gguf README.md");
    assert_string_equal(choose("q4_0"), "M-2.Q4_0.gguf: M-2.Q4_0.gguf");
    assert_string_equal(choose("IQ4_XS"), "m-iq4_xs.gguf: m-iq4_xs.gguf");
    assert_string_equal(choose("q8_k_xl"), "M-UD-Q8_K_XL.gguf: M-UD-Q8_K_XL.gguf");
    assert_string_equal(choose("bf16"), "m-BF16.gguf: m-BF16.gguf");
    assert_string_equal(choose("m.gguf"), "f16/m.gguf: f16/m.gguf");
    assert_string_equal(choose("Q4_K"), "no \"Q4_K\" there: choose one of: Q4_0, Q8_K_XL, m.gguf, BF16, Q4_K_M, IQ4_XS");
    assert_string_equal(choose("README.md"), "no \"README.md\" there: choose one of: Q4_0, Q8_K_XL, m.gguf, BF16, Q4_K_M, IQ4_XS");
}

static void without_a_word_the_usual_type(void **state)
{
    (void)state;
    list("m.F16.gguf m.Q4_1.gguf m.q8_0.gguf config.json tokenizer.json model.safetensors");
    assert_string_equal(choose(NULL), "m.q8_0.gguf: m.q8_0.gguf");
    assert_string_equal(others, "F16, Q4_1, safetensors");
    list("m.F16.gguf m.Q4_1.gguf");
    assert_string_equal(choose(NULL), "m.Q4_1.gguf: m.Q4_1.gguf");
    list("m.Q2_K.gguf m.F16.gguf mmproj-Q8_0.gguf m.imatrix.gguf");
    assert_string_equal(choose(NULL), "m.F16.gguf: m.F16.gguf");
    assert_string_equal(others, "Q2_K");
    list("m.Q2_K.gguf");
    assert_string_equal(choose(NULL), "m.Q2_K.gguf: m.Q2_K.gguf");
    assert_string_equal(others, "");
}

static void a_split_file_is_all_its_parts(void **state)
{
    (void)state;
    list("q/m-Q4_1-00001-of-00002.gguf q/m-Q4_1-00002-of-00002.gguf m-F16-00001-of-00003.gguf m-F16-00003-of-00003.gguf");
    assert_string_equal(choose("Q4_1"), "q/m-Q4_1-00001-of-00002.gguf: q/m-Q4_1-00001-of-00002.gguf q/m-Q4_1-00002-of-00002.gguf");
    assert_string_equal(choose("m-Q4_1-00002-of-00002.gguf"), "q/m-Q4_1-00001-of-00002.gguf: q/m-Q4_1-00001-of-00002.gguf q/m-Q4_1-00002-of-00002.gguf");
    assert_string_equal(choose("F16"), "no \"F16\" there: choose one of: Q4_1");
    list("m-00000-of-00002.gguf m-99999-of-00002.gguf -00001-of-00001.gguf");
    assert_string_equal(choose("m-99999-of-00002.gguf"), "m-99999-of-00002.gguf: m-99999-of-00002.gguf");
}

static void two_of_a_type_have_their_names(void **state)
{
    (void)state;
    list("a.Q8_0.gguf b.Q8_0.gguf c.Q4_0.gguf");
    assert_string_equal(choose("Q8_0"), "\"Q8_0\" is more than one: choose one of: a.Q8_0.gguf, b.Q8_0.gguf, Q4_0");
    assert_string_equal(choose("b.Q8_0.gguf"), "b.Q8_0.gguf: b.Q8_0.gguf");
    assert_string_equal(choose(NULL), "a.Q8_0.gguf: a.Q8_0.gguf");
}

static void a_whole_path_means_one_file(void **state)
{
    (void)state;
    list("model.gguf sub/model.gguf sub/two.gguf q/m-Q4_1.gguf q/r/m-Q4_1.gguf");
    assert_string_equal(choose("model.gguf"), "model.gguf: model.gguf");
    assert_string_equal(choose("sub/model.gguf"), "sub/model.gguf: sub/model.gguf");
    assert_string_equal(choose("two.gguf"), "sub/two.gguf: sub/two.gguf");
    assert_string_equal(choose("q/m-Q4_1.gguf"), "q/m-Q4_1.gguf: q/m-Q4_1.gguf");
    assert_string_equal(choose("m-Q4_1.gguf"), "\"m-Q4_1.gguf\" is more than one: choose one of: model.gguf, q/m-Q4_1.gguf, q/r/m-Q4_1.gguf, sub/model.gguf, two.gguf");
    list("m.gguf m.gguf"); /* a repository that lists a file twice has it once */
    assert_string_equal(choose("m.gguf"), "m.gguf: m.gguf");
}

/* Comparing each with each took a minute. */
static void many_long_names_take_no_time(void **state)
{
    char name[256];
    (void)state;
    names_free(&all);
    for (int i = 0; i < 1000; i++) {
        int n = snprintf(name, sizeof name, "q1_%03d", i); /* a type that no other file has */
        while (n < 230)
            n += snprintf(name + n, sizeof name - (size_t)n, "-a");
        strcpy(name + n, ".gguf");
        assert_int_equal(names_add(&all, name, &err), 0);
    }
    names_sort(&all);
    clock_t start = clock();
    assert_memory_equal(choose(NULL), "q1_000-a", 8);
    assert_memory_equal(choose("Q1_999"), "q1_999-a", 8);
    assert_true(clock() - start < 2 * CLOCKS_PER_SEC);
}

static void folders(void **state)
{
    const char *none = "no complete model there: neither a GGUF file nor config.json, a tokenizer and model*.safetensors";
    (void)state;
    list("model.safetensors tokenizer.json config.json sub/config.json pytorch_model.bin adapter.safetensors README.md generation_config.json");
    assert_string_equal(choose(NULL), ": config.json generation_config.json tokenizer.json model.safetensors");
    assert_string_equal(choose("safetensors"), ": config.json generation_config.json tokenizer.json model.safetensors");
    list("model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json consolidated.safetensors tokenizer.model config.json");
    assert_string_equal(choose(NULL), ": config.json tokenizer.model model.safetensors.index.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors");
    list("model-00001-of-00002.safetensors model.safetensors.index.json tokenizer.model config.json");
    assert_string_equal(choose(NULL), none);
    list("model-00001-of-00001.safetensors tokenizer.model config.json");
    assert_string_equal(choose(NULL), none);
    list("model.safetensors config.json");
    assert_string_equal(choose(NULL), none);
    list("model.safetensors tokenizer.json");
    assert_string_equal(choose(NULL), none);
    list("");
    assert_string_equal(choose(NULL), none);
    list("pytorch_model.bin config.json tokenizer.json");
    assert_non_null(strstr(choose(NULL), "only PyTorch pickle weights (pytorch_model.bin)"));
}

static void names_from_outside(void **state)
{
    static const char *const safe[] = {"a", "a/b", "..a", "a/.b/c", "a b+%é.gguf"};
    static const char *const unsafe[] = {"", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "a\nb", "a\\b", "\x7f"};
    static const char *const ids[] = {"gpt2", "ORG/NAME", "a-b/c.d_e-1"};
    static const char *const no_ids[] = {"", "/", "a/", "/a", "a/b/c", "a..b/c", "a--b/c", ".a/b", "a/b-", "a b/c", "a/../b", "a/b\n"};
    char longest[1100];
    (void)state;
    for (size_t i = 0; i < sizeof safe / sizeof *safe; i++)
        assert_true(name_is_safe(safe[i]));
    for (size_t i = 0; i < sizeof unsafe / sizeof *unsafe; i++)
        assert_false(name_is_safe(unsafe[i]));
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        assert_true(repository_is_valid(ids[i]));
    for (size_t i = 0; i < sizeof no_ids / sizeof *no_ids; i++)
        assert_false(repository_is_valid(no_ids[i]));
    memset(longest, 'a', sizeof longest);
    longest[256] = 0;
    assert_false(name_is_safe(longest));
    assert_true(name_matters("q/m.gguf") && name_matters("config.json") && name_matters("model-00001-of-00002.safetensors"));
    assert_false(name_matters("README.md") || name_matters("sub/config.json") || name_matters("onnx/model.safetensors"));
}

static int clean(void **state)
{
    (void)state;
    names_free(&all);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(types_are_read_from_names), cmocka_unit_test(without_a_word_the_usual_type), cmocka_unit_test(a_split_file_is_all_its_parts),
                                       cmocka_unit_test(two_of_a_type_have_their_names), cmocka_unit_test(a_whole_path_means_one_file), cmocka_unit_test(many_long_names_take_no_time),
                                       cmocka_unit_test(folders), cmocka_unit_test(names_from_outside)};
    return cmocka_run_group_tests(tests, NULL, clean);
}
