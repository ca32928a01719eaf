/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "format/make_files.h"

/* Every range of rows gives what a read of everything gives at that place. */
static void expect_ranges(const struct checkpoint *c, const char *name)
{
    const struct view *v = checkpoint_find(c, name);
    uint64_t bytes = view_row_bytes(v), rows = v->dim[0];
    uint8_t *all = malloc(rows * bytes + 1), *part = malloc(rows * bytes + 1);
    assert_true(all && part);
    assert_int_equal(checkpoint_read_rows(c, v, 0, rows, all, NULL), 0);
    for (uint64_t from = 0; from < rows; from++)
        for (uint64_t n = 0; from + n <= rows; n++) {
            part[n * bytes] = 0xa5;
            assert_int_equal(checkpoint_read_rows(c, v, from, n, part, NULL), 0);
            assert_memory_equal(part, all + from * bytes, n * bytes);
            assert_int_equal(part[n * bytes], 0xa5);
        }
    free(all);
    free(part);
}

static void any_range_of_rows_can_be_read(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    expect_tiny(c);
    static const char *const names[] = {"layers.0.q", "layers.1.k", "layers.0.v", "norm"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        expect_ranges(c, names[i]);
    checkpoint_close(c);
}

/* A row of q that is larger than the staging memory, so that rows are read one by one. */
static void wide_rows_in_pairs_are_read(void **state)
{
    (void)state;
    enum { COLS = 300000, ROWS = 4 };
    struct gguf_parts g = gguf_empty();
    gguf_keys(&g, "llama.attention.head_count");
    kv_u32(&g, "llama.attention.head_count", 1);
    tensor_info(&g, "blk.0.attn_q.weight", 0, 0, 2, (uint64_t)COLS, (uint64_t)ROWS);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < COLS; k++)
            put_f32(&g.data, (float)(r + k * 8));
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    float *x = malloc(ROWS * COLS * sizeof *x);
    static const int order[ROWS] = {0, 2, 1, 3};
    assert_non_null(x);
    assert_int_equal(checkpoint_read_rows(c, checkpoint_find(c, "layers.0.q"), 0, ROWS, x, NULL), 0);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < COLS; k += 1777)
            assert_true(x[r * COLS + k] == (float)(order[r] + k * 8));
    free(x);
    checkpoint_close(c);
}

static void quantised_rows_keep_their_blocks(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_empty();
    gguf_keys(&g, "");
    tensor_info(&g, "blk.0.attn_q.weight", 8, 0, 2, (uint64_t)64, (uint64_t)32); /* Q8_0: 68 bytes a row */
    for (int i = 0; i < 32 * 68; i++)
        put_u8(&g.data, (unsigned)(i / 68));
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    const struct view *v = checkpoint_find(c, "layers.0.q");
    uint8_t x[68];
    assert_int_equal(view_row_bytes(v), 68);
    for (unsigned r = 0; r < 32; r++) {
        assert_int_equal(checkpoint_read_rows(c, v, r, 1, x, NULL), 0);
        assert_int_equal(x[0], r / 8 * 8 + (r % 8 < 4 ? 2 * (r % 4) : 2 * (r % 4) + 1));
        assert_int_equal(x[67], x[0]);
    }
    checkpoint_close(c);
}

static void rows_outside_are_refused(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    struct error err;
    float x[M_HIDDEN];
    const struct view *v = checkpoint_find(c, "embed");
    assert_int_equal(checkpoint_read_rows(c, v, M_VOCAB, 1, x, &err), ERR_INTERNAL);
    assert_int_equal(checkpoint_read_rows(c, v, UINT64_MAX, 2, x, &err), ERR_INTERNAL);
    assert_int_equal(checkpoint_read_rows(c, v, M_VOCAB, 0, x, &err), 0);
    assert_null(checkpoint_find(c, "nothing"));
    assert_null(checkpoint_meta(c, "nothing"));
    checkpoint_close(c);
    checkpoint_close(NULL);
}

static void content_decides_and_not_the_name(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    struct checkpoint *c = expect_opened(make_gguf("m.safetensors", &g));
    assert_string_equal(c->format->name, "gguf");
    checkpoint_close(c);
    make_folder(1);
    assert_int_equal(rename(made("model.safetensors"), made("m.gguf")), 0);
    c = expect_opened(made("m.gguf"));
    assert_string_equal(c->format->name, "safetensors");
    checkpoint_close(c);
}

static void item_13_file_shrinks_while_open(void **state)
{
    (void)state;
    struct gguf_parts g = gguf_model("");
    struct checkpoint *c = expect_opened(make_gguf("m.gguf", &g));
    const struct view *v = checkpoint_find(c, "layers.0.q");
    struct error err = {0};
    float x[M_HEADS * M_HEAD * M_HIDDEN];
    assert_int_equal(truncate(made("m.gguf"), (off_t)(v->offset + 16)), 0);
    assert_int_equal(checkpoint_read_rows(c, v, 0, v->dim[0], x, &err), ERR_IO);
    assert_non_null(strstr(err.text, "changed while open"));
    checkpoint_close(c);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(any_range_of_rows_can_be_read), T(wide_rows_in_pairs_are_read), T(quantised_rows_keep_their_blocks), T(rows_outside_are_refused), T(content_decides_and_not_the_name),
        T(item_13_file_shrinks_while_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
