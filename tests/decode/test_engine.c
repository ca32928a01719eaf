/* SPDX-License-Identifier: Apache-2.0 */
#include "toy_engine.h"

/* Nodes at different layers, bound for different layers: each passes each layer once, and rows that stand together go together. */
static void nodes_advance_together_from_where_they_stand(void **state)
{
    (void)state;
    struct toy *f = toy_setup(3, TOY_NO_FAULT);
    struct node node[3];
    struct node *list[3];
    static const int16_t first[] = {2, 4, 1}, to[] = {6, 6, 3};
    for (int i = 0; i < 3; i++) {
        node[i] = (struct node){.row = {.token = i, .seq = i, .h = i}};
        list[i] = &node[i];
        assert_int_equal(engine_advance(&f->engine, &list[i], &first[i], 1, NULL), 0);
        assert_int_equal(node[i].at, first[i]);
    }
    uint64_t before = f->kv->forwards, rows = f->kv->rows;
    assert_int_equal(engine_advance(&f->engine, list, to, 3, NULL), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(node[i].at, to[i]);
    assert_int_equal(f->kv->forwards - before, 4); /* [1,2) of one, [2,3) of two, [3,4) of one, [4,6) of two */
    assert_int_equal(f->kv->rows - rows, 1 + 2 + 1 + 2);
    assert_int_equal(engine_advance(&f->engine, list, to, 3, NULL), 0);
    assert_int_equal(f->kv->forwards - before, 4); /* nothing left to do */
    toy_teardown(f);
}

static void an_error_of_the_backend_is_handed_on(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct node node = {.row = {.token = 1}, .at = 3}, *list = &node; /* claims to stand at layer 3, but has seen none */
    int16_t to = 6;
    struct error err = {0};
    assert_int_equal(engine_advance(&f->engine, &list, &to, 1, &err), ERR_INTERNAL);
    assert_non_null(strstr(err.text, "stands at layer 0"));
    toy_teardown(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_advance_together_from_where_they_stand),
        cmocka_unit_test(an_error_of_the_backend_is_handed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
