/* SPDX-License-Identifier: Apache-2.0 */
#include "model/shapes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static uint64_t count_parameters(const struct shape *s, int tied)
{
    uint64_t h = (uint64_t)s->hidden, q = (uint64_t)s->heads * (uint64_t)s->head_dim, kv = (uint64_t)s->kv_heads * (uint64_t)s->head_dim;
    uint64_t layer = 2 * h * q + 2 * h * kv + 3 * h * (uint64_t)s->ffn + 2 * h;
    return (uint64_t)s->layers * layer + h + (uint64_t)s->vocab * h * (tied ? 1 : 2);
}

/* The published models' parameter counts, to the last one. */
static void test_published_counts(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int tied;
        uint64_t parameters;
    } known[] = {
        {"llama2-7b", 0, 6738415616}, {"llama2-13b", 0, 13015864320}, {"llama2-70b", 0, 68976648192}, {"codellama-7b", 0, 6738546688},
        {"codellama-34b", 0, 33743970304}, {"llama3-8b", 0, 8030261248}, {"llama3.2-1b", 1, 1235814400}, {"smollm2-135m", 1, 134515008},
        {"tinyllama-1.1b", 0, 1100048384},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct shape *s = shape_find(known[i].name);
        assert_non_null(s);
        assert_int_equal(count_parameters(s, known[i].tied), known[i].parameters);
    }
}

static void test_every_shape_is_usable(void **state)
{
    (void)state;
    int n = 0;
    for (const struct shape *s; (s = shape_at(n)); n++) {
        assert_ptr_equal(shape_find(s->name), s);
        assert_true(s->help && *s->help);
        assert_int_equal(s->heads % s->kv_heads, 0);
        assert_int_equal(s->head_dim % 2, 0);
        assert_true(s->vocab >= 258 && s->bos < s->vocab && s->eos < s->vocab && s->bos != s->eos);
        assert_true(s->norm_eps > 0 && s->range > 0 && s->rope_theta > 1);
        assert_int_equal(s->rope_factor != 0, s->rope_original != 0);
        assert_false(s->twins && (s->tied || s->vocab % 2));
    }
    assert_int_equal(n, 17);
    assert_null(shape_at(-1));
    assert_null(shape_find("tin"));
    assert_null(shape_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_published_counts), cmocka_unit_test(test_every_shape_is_usable)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
