/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "format/make_files.h"

#include "base/clock.h"

#define A(dtype, shape, from, to) "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}}"

/* A file of this header and n bytes of data is refused with these words. */
static void refused(const char *header, size_t n, const char *word, const char *word2)
{
    make_text("config.json", tiny_config);
    expect_refused(make_safetensors("bad.safetensors", header, 0, NULL, n), ERR_DATA, word, word2);
}

static void opened(const char *header, size_t n)
{
    make_text("config.json", tiny_config);
    checkpoint_close(expect_opened(make_safetensors("m.safetensors", header, 0, NULL, n)));
}

static void a_single_file_is_read(void **state)
{
    (void)state;
    make_folder(1);
    struct checkpoint *c = expect_opened(made("model.safetensors"));
    expect_tiny(c);
    assert_string_equal(c->format->name, "safetensors");
    assert_int_equal(checkpoint_meta(c, "hidden_size")->i, M_HIDDEN);
    assert_int_equal(checkpoint_find(c, "layers.1.q")->pair_heads, 0);
    assert_string_equal(checkpoint_find(c, "layers.1.q")->file_name, "model.layers.1.self_attn.q_proj.weight");
    checkpoint_close(c);
}

static void what_the_specification_allows_is_read(void **state)
{
    (void)state;
    opened("{}", 0);
    opened(" \n{\"__metadata__\":{\"format\":\"pt\"}}  \n\t", 0);
    opened(A("BF16", "[2,3]", 0, 12), 12);
    opened(A("F32", "[]", 0, 4), 4);
    opened(A("F32", "[0]", 0, 0), 0);
    opened("{\"a\":{\"data_offsets\":[0,2],\"shape\":[1],\"dtype\":\"F16\"},\"b\":{\"dtype\":\"F16\",\"shape\":[0,4],\"data_offsets\":[2,2]}}", 2);
    opened("{\"model.layers.0.self_attn.rotary_emb.inv_freq\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
}

static void item_01_not_a_file_of_tensors(void **state)
{
    (void)state;
    char seven[8] = "{\"a\":1}";
    for (size_t n = 0; n < 8; n++)
        expect_refused(make_file("bad.safetensors", seven, n), ERR_DATA, "bad.safetensors", n ? "too few" : "empty");
    expect_refused("/dev/zero", ERR_NOINPUT, "/dev/zero", "not a regular file");
    expect_refused("/dev/random", ERR_NOINPUT, "/dev/random", "not a regular file");
    assert_int_equal(mkfifo(made("pipe"), 0600), 0);
    expect_refused(made("pipe"), ERR_NOINPUT, "pipe", "not a regular file");
    expect_refused(made("absent"), ERR_NOINPUT, "absent", "No such file");
    assert_int_equal(mkdir(made("folder"), 0700), 0);
    expect_refused(made("folder"), ERR_NOINPUT, "folder", "config.json");
    make_text("locked", "GGUF");
    chmod(made("locked"), 0);
    if (geteuid()) /* root reads it all the same */
        expect_refused(made("locked"), ERR_NOINPUT, "locked", "Permission denied");
    expect_refused(make_text("model.bin", "PK\3\4 a pickle, for all we know"), ERR_DATA, "model.bin", "safe_serialization=True");
    expect_refused(make_text("notes.txt", "some text that is no model"), ERR_DATA, "notes.txt", "neither GGUF");
}

static void item_02_header_length(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {UINT64_MAX, 1ull << 63, 100000001, 55};
    static const char *const shown[] = {"18446744073709551615", "9223372036854775808", "100000001", "length 55 "};
    for (int i = 0; i < 4; i++)
        expect_refused(make_safetensors("bad.safetensors", A("F32", "[1]", 0, 4), lengths[i], NULL, i == 3 ? 0 : 4), ERR_DATA, shown[i], "bytes");
    struct blob b = {0};
    put_u64(&b, 0);
    put(&b, "{}", 2);
    expect_refused(make_file("bad.safetensors", b.p, b.n), ERR_DATA, "header length 0", "10 bytes");
    expect_refused(make_file("bad.safetensors", b.p, 8), ERR_DATA, "header length 0", "8 bytes");
    free_blob(&b);
}

static void item_03_header_that_is_not_text(void **state)
{
    (void)state;
    static const char *const bytes[] = {"\xff", "\xc0\x80", "\xed\xa0\x80", "\xe2\x82", "\xf5\x80\x80\x80"};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
        char header[80];
        snprintf(header, sizeof header, "{\"%s\":{}}", bytes[i]);
        refused(header, 0, "offset 0xa", "UTF-8"); /* 8 bytes of length, then {" */
    }
    refused("{\"\\ud800\":{}}", 0, "offset 0x", "surrogate");
    refused("{\"a\\u0000\":{}}", 0, "offset 0x", "0000");
    char nul[] = "{\"aXb\":{}}", *x = strchr(nul, 'X');
    struct blob b = {0};
    put_u64(&b, sizeof nul - 1);
    *x = 0;
    put(&b, nul, sizeof nul - 1);
    expect_refused(make_file("bad.safetensors", b.p, b.n), ERR_DATA, "offset 0x", "control character");
    free_blob(&b);
}

static void item_04_header_that_is_not_json(void **state)
{
    (void)state;
    const char *whole = A("F32", "[1]", 0, 4);
    for (size_t n = 1; n < strlen(whole); n++) {
        char header[128];
        snprintf(header, sizeof header, "%.*s", (int)n, whole);
        refused(header, 4, "bad.safetensors", "offset 0x");
    }
    refused(A("F32", "[1]", 0, 4) "x", 4, "text after", "offset 0x");
    refused(A("F32", "[1]", 0, 4) "{}", 4, "text after", "offset 0x");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],}}", 4, "expected", "offset 0x");
    static char deep[100002];
    memset(deep, '[', sizeof deep - 1);
    memcpy(deep, "{\"a\":", 5);
    refused(deep, 0, "expected '{'", "offset 0x");
    memset(deep, '{', 5);
    refused(deep, 0, "expected '\"'", "offset 0x");
    refused("{\"__metadata__\":{\"a\":{}}}", 0, "expected '\"'", "offset 0x");
}

static void item_05_names_twice(void **state)
{
    (void)state;
    refused("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"\\u0077\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "\"w\"", "twice");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "\"a\"", "dtype: there twice");
    refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__", "twice");
}

static void item_06_numbers(void **state)
{
    (void)state;
    static const char *const bad[] = {"-1", "1.0", "1e3", "01", "9007199254740993", "18446744073709551616", "null", "\"1\"", "true"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char header[256];
        snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":[0,4]}}", bad[i]);
        refused(header, 4, "offset 0x", "number");
        snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,%s]}}", bad[i]);
        refused(header, 4, "offset 0x", "number");
    }
    char header[512];
    snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"F32\",\"shape\":[%0400d],\"data_offsets\":[0,4]}}", 1);
    refused(header, 4, "offset 0x", "number");
}

static void item_07_shape_product_wraps(void **state)
{
    (void)state;
    refused(A("F32", "[4194305,4194305,211106198978564]", 0, 16), 16, "\"a\"", "shape: the product");
    refused(A("F32", "[281474976710656,281474976710656]", 0, 0), 0, "\"a\"", "shape: the product");
    refused(A("F32", "[1,1,1,1,1,1,1,1,4]", 0, 16), 16, "\"a\"", "shape: too many");
    refused(A("F32", "[1,1,1,1,1,1,1,4]", 0, 16), 16, "\"a\"", "vectors or matrices");
}

static void item_08_offsets(void **state)
{
    (void)state;
#define B(from, to) "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[" #from "," #to "]}}"
    refused(A("F32", "[2]", 0, 4), 4, "\"a\"", "need 8");
    refused(A("F32", "[1]", 4, 0), 4, "\"a\"", "begin is above end");
    refused(A("F32", "[1]", 0, 4), 3, "\"a\"", "cut off");
    refused(B(12, 16), 16, "\"b\"", "4 unused bytes after a");
    refused(B(4, 8), 8, "\"b\"", "inside a");
    refused(B(8, 12), 13, "1 bytes at the end", "after b");
    refused(B(8, 12), 11, "\"b\"", "cut off");
    refused("{}", 1, "1 bytes at the end", "the header");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "\"a\"", "data_offsets");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "\"a\"", "two numbers");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "\"a\"", "missing");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"strides\":[1]}}", 4, "\"a\"", "strides: unknown");
}

static void item_09_types(void **state)
{
    (void)state;
    refused(A("F31", "[1]", 0, 4), 4, "\"a\"", "\"F31\"");
    refused(A("f32", "[1]", 0, 4), 4, "\"a\"", "\"f32\"");
    refused(A("I32", "[1]", 0, 4), 4, "\"a\"", "I32 cannot hold a weight");
    refused(A("F8_E4M3", "[4]", 0, 4), 4, "\"a\"", "F8_E4M3 cannot hold");
    refused(A("F4", "[3]", 0, 2), 2, "\"a\"", "whole bytes");
    refused(A("F4", "[4]", 0, 2), 2, "\"a\"", "F4 cannot hold");
}

/* n entries that all lie at the same place, or one behind the other. */
static char *many(int n, bool overlap)
{
    char *s = malloc((size_t)n * 96 + 3), *p = s;
    assert_non_null(s);
    *p++ = '{';
    for (int i = 0; i < n; i++)
        p += sprintf(p, "%s\"t%d\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "", i, overlap ? 0 : 4 * i, overlap ? 4 : 4 * i + 4);
    strcpy(p, "}");
    return s;
}

static void item_10_too_many_entries(void **state)
{
    (void)state;
    char *header = many(100000, true);
    refused(header, 4, "more than 65536 tensors", "bad.safetensors");
    free(header);
    header = many(65536, false);
    int64_t t = clock_ns();
    opened(header, 65536 * 4);
    assert_true(clock_ns() - t < 2000000000); /* 5 MB: 30 ms, and some for sanitizers */
    free(header);
}

static void item_13_file_shrinks_while_open(void **state)
{
    (void)state;
    make_folder(1);
    struct checkpoint *c = expect_opened(made_dir);
    const struct view *v = checkpoint_find(c, "layers.1.down");
    struct error err = {0};
    float x[M_FFN * M_HIDDEN];
    assert_int_equal(checkpoint_read_rows(c, v, 0, v->dim[0], x, &err), 0);
    assert_int_equal(truncate(made("model.safetensors"), (off_t)(v->offset + 16)), 0);
    assert_int_equal(checkpoint_read_rows(c, v, 0, v->dim[0], x, &err), ERR_IO);
    assert_non_null(strstr(err.text, "model.safetensors"));
    assert_non_null(strstr(err.text, "changed while open"));
    checkpoint_close(c);
}

#define T(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_single_file_is_read), T(what_the_specification_allows_is_read), T(item_01_not_a_file_of_tensors), T(item_02_header_length), T(item_03_header_that_is_not_text),
        T(item_04_header_that_is_not_json), T(item_05_names_twice), T(item_06_numbers), T(item_07_shape_product_wraps), T(item_08_offsets), T(item_09_types), T(item_10_too_many_entries),
        T(item_13_file_shrinks_while_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
