/* SPDX-License-Identifier: Apache-2.0 */
#include "texts.h"

/* A file of n tokens 0, 1, 2 .. (mod 500); documents begin where `begins` says. */
static void write_sources(struct texts *t, int n, bool (*begins)(int), uint32_t vocab, const struct dataset_source *source, int n_sources)
{
    struct dataset_header h = {.vocab = vocab, .tokens = (uint64_t)n, .sources = (uint64_t)n_sources};
    const size_t table = (size_t)n_sources * sizeof *source, bytes = DATASET_HEADER + (size_t)n * 4 + table;
    uint8_t *p = calloc(1, bytes);
    for (int i = 0; i < n; i++) {
        uint32_t w = (uint32_t)(i % 500) | (begins(i) ? DATASET_BEGINS : 0) | (i % 10 == 3 ? DATASET_GIVEN : 0);
        h.documents += begins(i);
        memcpy(p + DATASET_HEADER + (size_t)i * 4, &w, 4);
    }
    dataset_header_write(&h, p);
    memcpy(p + bytes - table, source, table);
    FILE *f = fopen(t->out, "wb");
    assert_int_equal(fwrite(p, 1, bytes, f), bytes);
    fclose(f);
    free(p);
}

static void write_tokens(struct texts *t, int n, bool (*begins)(int), uint32_t vocab)
{
    write_sources(t, n, begins, vocab, &(struct dataset_source){(uint64_t)n, 1}, 1);
}

static bool at_sevens(int i) { return i % 7 == 0; }
static bool at_zero(int i) { return i == 0; }

static void blocks_by_value(void **state)
{
    (void)state;
    struct texts t;
    struct dataset d;
    struct batch b;
    struct error err = {0};
    texts_open(&t);
    write_tokens(&t, 41, at_sevens, 500);
    if (dataset_open(&d, t.out, 8, 0.2, &err))
        fail_with(err.text);
    assert_int_equal(d.blocks, 5);
    assert_int_equal(d.held, 1);
    assert_int_equal(dataset_held_block(&d, 0), 4);
    assert_int_equal(batch_open(&b, 2, 8, &err), 0);
    assert_int_equal(dataset_read(&d, 1, &b, 1, &err), 0);
    const int32_t target[8] = {9, 10, 11, 12, -1, -1, 15, 16}; /* 13 is given; 14 begins a document */
    const int32_t start[8] = {0, 0, 0, 0, 0, 0, 6, 6};
    for (int k = 0; k < 8; k++) {
        assert_int_equal(b.token[8 + k], 8 + k);
        assert_int_equal(b.target[8 + k], target[k]);
        assert_int_equal(b.start[8 + k], start[k]);
    }
    d.learn_given = true;
    assert_int_equal(dataset_read(&d, 1, &b, 0, &err), 0);
    assert_int_equal(b.target[4], 13);
    assert_int_equal(b.target[5], -1);
    batch_close(&b);
    dataset_close(&d);
    texts_close(&t);
}

/* Every epoch has every trained block once, in an order of its own; held-out blocks never come. */
static void every_block_once(void **state)
{
    (void)state;
    const struct {
        int tokens, length;
        double held;
    } shapes[] = {{21, 10, 0}, {1001, 10, 0.01}, {1001, 10, 0.5}, {997, 10, 0.3}, {5000, 3, 0.05}, {5000, 2, 0.499}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct texts t;
        struct dataset d;
        struct error err = {0};
        texts_open(&t);
        write_tokens(&t, shapes[s].tokens, at_zero, 500);
        if (dataset_open(&d, t.out, shapes[s].length, shapes[s].held, &err))
            fail_with(err.text);
        uint64_t n = d.blocks - d.held, same = 0, in_order = 0;
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            uint8_t *seen = calloc(1, d.blocks);
            for (uint64_t i = 0; i < d.held; i++) {
                assert_true(dataset_held_block(&d, i) < d.blocks);
                assert_int_equal(seen[dataset_held_block(&d, i)]++, 0);
            }
            for (uint64_t i = 0; i < n; i++) {
                uint64_t block = dataset_block(&d, 5, epoch * n + i);
                assert_true(block < d.blocks);
                assert_int_equal(seen[block]++, 0);
                same += epoch && block == dataset_block(&d, 5, i);
                in_order += i && block == dataset_block(&d, 5, epoch * n + i - 1) + 1;
            }
            free(seen);
        }
        if (n > 100) {
            assert_true(same < n / 10 && in_order < n / 10);
            assert_true(dataset_block(&d, 5, 0) != dataset_block(&d, 6, 0) || dataset_block(&d, 5, 1) != dataset_block(&d, 6, 1));
        }
        dataset_close(&d);
        texts_close(&t);
    }
}

/* A pass takes each source as often as its weight says, every one of its blocks about equally often over the passes, and the order is a function of the position alone. */
static void weighted_sources(void **state)
{
    (void)state;
    const struct dataset_source source[] = {{4000, 0.5}, {1003, 3}, {4, 7}, {2994, 1}};
    enum { PASSES = 4, LENGTH = 10 };
    struct texts t;
    struct dataset d;
    struct error err = {0};
    texts_open(&t);
    write_sources(&t, 8001, at_zero, 500, source, 4);
    if (dataset_open(&d, t.out, LENGTH, 0.05, &err))
        fail_with(err.text);
    assert_int_equal(d.part[0].blocks + d.part[1].blocks + d.part[2].blocks + d.part[3].blocks, d.blocks - d.held);
    assert_int_equal(d.part[2].blocks, 0); /* no block begins in it */
    assert_int_equal(d.pass, 190 + 3 * d.part[1].blocks + d.part[3].blocks);
    int *seen = calloc(d.blocks, sizeof *seen);
    for (uint64_t pass = 0; pass < PASSES; pass++) {
        uint64_t taken[4] = {0};
        for (uint64_t i = 0; i < d.pass; i++) {
            uint64_t block = dataset_block(&d, 9, pass * d.pass + i), at = block * LENGTH;
            assert_true(block < d.blocks && block % d.spread != d.spread - 1);
            seen[block]++;
            taken[at < 4000 ? 0 : at < 5003 ? 1 : 3]++;
        }
        assert_int_equal(taken[0], 190);
        assert_int_equal(taken[1], 3 * d.part[1].blocks);
        assert_int_equal(taken[3], d.part[3].blocks);
    }
    for (uint64_t b = 0; b < d.blocks; b++)
        if (b % d.spread != d.spread - 1)
            assert_int_equal(seen[b], b * LENGTH < 4000 ? PASSES / 2 : b * LENGTH < 5003 ? 3 * PASSES : PASSES);
    free(seen);
    dataset_close(&d);
    texts_close(&t);
}

static void refuses(const struct texts *t, int length, double held, int code, const char *what)
{
    struct dataset d;
    struct error err = {0};
    assert_int_equal(dataset_open(&d, t->out, length, held, &err), code);
    if (!strstr(err.text, what))
        fail_msg("\"%s\" does not say %s", err.text, what);
}

static void patch(const struct texts *t, long at, const void *p, size_t n)
{
    FILE *f = fopen(t->out, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

static void hostile_files(void **state)
{
    (void)state;
    struct texts t;
    texts_open(&t);
    refuses(&t, 8, 0, ERR_NOINPUT, "data.tokens");
    write_tokens(&t, 100, at_zero, 500);
    refuses(&t, 1, 0, ERR_USAGE, "length 1");
    refuses(&t, 1 << 21, 0, ERR_USAGE, "length");
    refuses(&t, 8, 0.6, ERR_USAGE, "held-out share 0.6");
    refuses(&t, 50, 0, ERR_DATA, "100 tokens: too few");
    const double none = 0;
    const uint64_t many = 101;
    patch(&t, DATASET_HEADER + 408, &none, 8);
    refuses(&t, 8, 0, ERR_DATA, "source 0: 100 tokens, weight 0");
    patch(&t, DATASET_HEADER + 400, &many, 8);
    refuses(&t, 8, 0, ERR_DATA, "source 0: 101 tokens");
    write_sources(&t, 100, at_zero, 500, &(struct dataset_source){99, 1}, 1);
    refuses(&t, 8, 0, ERR_DATA, "sources of 99 tokens, not 100");
    write_sources(&t, 100, at_zero, 500, &(struct dataset_source){0}, 0);
    refuses(&t, 8, 0, ERR_DATA, "0 sources");
    write_tokens(&t, 100, at_zero, 500);
    assert_int_equal(truncate(t.out, 300), 0);
    refuses(&t, 8, 0, ERR_DATA, "100 tokens in a file of 300 bytes");
    patch(&t, 40, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    refuses(&t, 8, 0, ERR_DATA, "cut off or damaged");
    patch(&t, 8, "\3", 1);
    refuses(&t, 8, 0, ERR_DATA, "version 3");
    patch(&t, 0, "X", 1);
    refuses(&t, 8, 0, ERR_DATA, "not a file of tokens");
    assert_int_equal(truncate(t.out, 63), 0);
    refuses(&t, 8, 0, ERR_DATA, "63 bytes");
    assert_int_equal(truncate(t.out, 0), 0);
    refuses(&t, 8, 0, ERR_DATA, "0 bytes");
    texts_close(&t);
}

static void bad_token_and_shrinking_file(void **state)
{
    (void)state;
    struct texts t;
    struct dataset d;
    struct batch b;
    struct error err = {0};
    texts_open(&t);
    write_tokens(&t, 100, at_zero, 500);
    patch(&t, DATASET_HEADER + 4 * 9, "\xf4\1\0\0", 4); /* 500 */
    assert_int_equal(dataset_open(&d, t.out, 8, 0, &err), 0);
    assert_int_equal(batch_open(&b, 1, 8, &err), 0);
    assert_int_equal(dataset_read(&d, 0, &b, 0, &err), 0);
    assert_int_equal(dataset_read(&d, 1, &b, 0, &err), ERR_DATA);
    assert_non_null(strstr(err.text, "offset 0x64: token 500: beyond the vocabulary of 500"));
    assert_int_equal(truncate(t.out, 200), 0);
    assert_int_equal(dataset_read(&d, 5, &b, 0, &err), ERR_IO);
    assert_non_null(strstr(err.text, "changed while open"));
    batch_close(&b);
    dataset_close(&d);
    texts_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_by_value), cmocka_unit_test(every_block_once), cmocka_unit_test(weighted_sources), cmocka_unit_test(hostile_files), cmocka_unit_test(bad_token_and_shrinking_file),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
