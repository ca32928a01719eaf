/* SPDX-License-Identifier: Apache-2.0 */
#include "toy_run.h"

#include "train/log.h"

static const char *const steps[] = {"header", "1", "2", "2", "3"};

static void write_steps(struct log *l, int from, int to)
{
    struct error err = {0};
    for (int step = from; step <= to; step++) {
        const struct train_point point[2] = {{.layer = 2, .result = {.ce = 1.5, .agree = 0.25}}, {.layer = 4, .result = {.ce = 1.25}}};
        const struct train_event e = {.kind = step == 2 ? TRAIN_LOOKED : TRAIN_STEPPED, .step = step, .n = step == 2 ? 2 : 1, .point = point, .rate = 3e-4, .loss = 2, .norm = 0.5, .tokens = 64};
        assert_int_equal(log_write(l, &e, &err), 0);
    }
}

static int lines_of(const char *folder, char first[8][64])
{
    char path[160], *text = NULL;
    size_t n = 0;
    struct error err = {0};
    int lines = 0;
    snprintf(path, sizeof path, "%s/log.csv", folder);
    assert_int_equal(file_slurp(path, 1 << 20, &text, &n, &err), 0);
    for (char *p = text, *stop; (stop = strchr(p, '\n')) && lines < 8; p = stop + 1)
        snprintf(first[lines++], 64, "%.*s", (int)(stop - p), p);
    free(text);
    return lines;
}

static void rows_by_value(void **state)
{
    (void)state;
    struct texts t;
    struct log l;
    struct error err = {0};
    char line[8][64];
    texts_open(&t);
    assert_int_equal(log_open(&l, t.dir, 0, &err), 0);
    write_steps(&l, 1, 3);
    log_close(&l);
    assert_int_equal(lines_of(t.dir, line), 5);
    assert_true(!strncmp(line[0], "step,set,layer,tokens,seconds,rate,norm,speed,loss,ce,kl,accept", 63));
    assert_true(!strncmp(line[1], "1,train,2,64,0.000,0.0003,0.5,0,2.000000,1.500000,0.000000,0.00", 63));
    assert_true(!strncmp(line[2], "2,held,2,64,", 12) && !strncmp(line[3], "2,held,4,64,", 12) && !strncmp(line[4], "3,train,2,", 10));
    texts_close(&t);
}

/* Going on behind step 2: rows of step 3, whole or cut off, go; foreign text goes. */
static void goes_on_behind_a_step(void **state)
{
    (void)state;
    struct texts t;
    struct log l;
    struct error err = {0};
    char line[8][64], path[160];
    texts_open(&t);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(log_open(&l, t.dir, round ? 2 : 0, &err), 0);
        write_steps(&l, round ? 3 : 1, 3);
        log_close(&l);
        assert_int_equal(lines_of(t.dir, line), 5);
        for (int i = 1; i < 5; i++)
            assert_int_equal(atoi(line[i]), atoi(steps[i]));
        snprintf(path, sizeof path, "%s/log.csv", t.dir);
        FILE *f = fopen(path, "ab");
        fputs("1,train,2,6", f); /* killed while it wrote */
        fclose(f);
    }
    FILE *f = fopen(path, "wb");
    fputs("something else\n1,train\n", f);
    fclose(f);
    assert_int_equal(log_open(&l, t.dir, 2, &err), 0);
    log_close(&l);
    assert_int_equal(lines_of(t.dir, line), 1);
    assert_int_equal(log_open(&l, "/tmp/lsk-there-is-no-such-folder", 0, &err), ERR_CREATE);
    texts_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_by_value), cmocka_unit_test(goes_on_behind_a_step)};
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
