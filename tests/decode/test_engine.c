/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

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

/* ---- a device that works beside the host: only a choice waits ---- */

static uint64_t late_bytes;

static int late_forward(struct kv *kv, int first, int last, const struct row *rows, int n, struct error *err)
{
    late_bytes += (uint64_t)(last - first) * 1000;
    return toy_forward(kv, first, last, rows, n, err);
}

static int late_pick(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct pick *picks, struct error *err)
{
    late_bytes += 2000;
    nanosleep(&(struct timespec){.tv_nsec = 4000000}, NULL);
    return toy_pick(kv, rows, asks, n, picks, err);
}

static uint64_t late_bytes_read(const struct kv *kv)
{
    (void)kv;
    return late_bytes;
}

/* What a choice waited for is shared out by the weights that the passes before it read. */
static void times_are_shared_by_weights(void **state)
{
    (void)state;
    struct toy *f = toy_setup(1, TOY_NO_FAULT);
    struct backend late = toy_prefilling();
    struct timeline *t = &f->t[0];
    struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 2, .n_drafts = 3, .depth = TOY_LAYERS, .max_tokens = 10};
    late.forward = late_forward;
    late.pick = late_pick;
    late.bytes_read = late_bytes_read;
    f->engine.b = &late;
    toy_prompt(f, 0, 1, 3, &ask);
    assert_int_equal(round_run(&f->engine, &t, 1, NULL), 0);
    const struct pace *p = &f->engine.pace;
    assert_true(p->layer.ns[1] > 0.9e6 * 0.5 && p->layer.ns[4] > 0); /* 4 ms of 2 layers of 1000 and a head of 2000 bytes: 1 ms a layer; of the last choice 2/8, 4/8 and 2/8 */
    assert_true(p->head.ns[1] > 1.5 * p->layer.ns[1] && p->head.ns[4] > 1.9 * p->layer.ns[4] && p->head.ns[4] < 2.1 * p->layer.ns[4]);
    assert_int_equal(t->stats.waits, 4); /* three drafts, one verification */
    assert_int_equal(f->engine.pace.n_queued, 0);
    toy_teardown(f);
}

static int asked[2]; /* picks that were to be committed; that were proposed */

static int counting_pick(struct kv *kv, const struct row *rows, const struct ask *asks, int n, struct pick *picks, struct error *err)
{
    for (int i = 0; i < n; i++)
        asked[asks[i].draft]++;
    return toy_pick(kv, rows, asks, n, picks, err);
}

/* Only proposals may be guessed with the head of drafts, and their time is kept apart where there is one. */
static void proposals_alone_use_the_head_of_drafts(void **state)
{
    (void)state;
    for (int own = 0; own < 2; own++) {
        struct toy *f = toy_setup(1, TOY_NO_FAULT);
        struct backend counting = toy_backend;
        struct timeline *t = &f->t[0];
        struct request ask = {.drafters = DRAFT_EXIT, .exit_layer = 2, .n_drafts = 3, .depth = TOY_LAYERS, .max_tokens = 10};
        counting.pick = counting_pick;
        f->engine.b = &counting;
        f->engine.draft_head = own;
        asked[0] = asked[1] = 0;
        toy_prompt(f, 0, 1, 3, &ask);
        assert_int_equal(round_run(&f->engine, &t, 1, NULL), 0);
        const struct pace *p = &f->engine.pace;
        assert_true(asked[0] == 4 && asked[1] == 3);
        assert_true(own ? p->draft_head.ns[1] > 0 && p->head.ns[1] == 0 : p->draft_head.ns[1] == 0 && p->head.ns[1] > 0);
        assert_true(p->head.ns[4] > 0 && p->draft_head.ns[4] == 0);
        toy_teardown(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_advance_together_from_where_they_stand),
        cmocka_unit_test(an_error_of_the_backend_is_handed_on),
        cmocka_unit_test(times_are_shared_by_weights),
        cmocka_unit_test(proposals_alone_use_the_head_of_drafts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
