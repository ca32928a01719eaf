/* SPDX-License-Identifier: Apache-2.0 */
#include "texts.h"

#include "train/hash.h"

/* The published values of FNV-1a. */
static void known_values(void **state)
{
    (void)state;
    assert_true(hash_add(HASH_START, "", 0) == 0xcbf29ce484222325u);
    assert_true(hash_add(HASH_START, "a", 1) == 0xaf63dc4c8601ec8cu);
    assert_true(hash_add(HASH_START, "foobar", 6) == 0x85944171f73967e8u);
}

static void tells_vocabularies_apart(void **state)
{
    (void)state;
    struct texts t, u;
    texts_open(&t);
    texts_open(&u);
    struct vocab *v = &u.model.vocab;
    const uint64_t h = hash_vocab(&t.model.vocab);
    assert_true(hash_vocab(v) == h);
#define TELLS(field, value)          \
    do {                             \
        __typeof__(field) was = field; \
        field = value;               \
        assert_true(hash_vocab(v) != h); \
        field = was;                 \
    } while (0)
    TELLS(v->add_bos, false);
    TELLS(v->eos, 7);
    TELLS(v->pretok, PRETOK_SMOLLM);
    TELLS(v->ignore_merges, true);
    TELLS(v->type[9], TOKEN_CONTROL);
    TELLS(v->piece[9].n, 0);
    TELLS(v->piece[9].p, v->piece[10].p);
    TELLS(v->added[0].special, false);
    TELLS(v->n_added, 1);
#undef TELLS
    assert_true(hash_vocab(v) == h);
    texts_close(&t);
    texts_close(&u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_values), cmocka_unit_test(tells_vocabularies_apart)};
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
