/* SPDX-License-Identifier: Apache-2.0 */
#include "toy_run.h"

#include "train/save.h"

/* A run that stopped after step 7 of 13, with checkpoints of steps 5 and 7. */
static void begin(struct toy_run *r)
{
    toy_run_open(r, "distill", 13);
    r->stop_at = 7;
    must_run(r, 1);
    r->stop_at = 0;
    r->t.resume = true;
}

static void names_what_differs(void **state)
{
    (void)state;
    struct toy_run r;
    begin(&r);
    const struct training good = r.t;
#define DIFFERS(change, what) \
    change;                   \
    must_fail(&r, ERR_USAGE, what); \
    r.t = good
    DIFFERS(r.t.schedule.recipe.rate = 1e-5, "rate was 0.0003, now it is 1e-05");
    DIFFERS(r.t.fit = DT_Q4_1, "fit was F32, now it is Q4_1");
    DIFFERS(r.t.schedule.recipe = *recipe_find("plain"), "recipe was distill, now it is plain");
    DIFFERS(r.t.schedule.steps = 14, "steps was 13, now it is 14");
    DIFFERS(r.t.schedule.seed = 4, "seed was 0x0000000000000003");
    DIFFERS(r.t.start = r.t.model, "start was none, now it is ");
    DIFFERS(r.t.batch = 1, "batch was 2, now it is 1");
    DIFFERS(r.t.accumulate = 1, "accumulate was 2");
    DIFFERS(r.t.length = 8, "length was 16");
    DIFFERS(r.t.schedule.recipe.decay = 0.1, "decay was 0, now it is 0.1");
    DIFFERS(r.t.schedule.recipe.anchor = 1, "anchor was 4, now it is 1");
    DIFFERS(r.t.held_share = 0.1, "held_out was 0.05");
    DIFFERS(r.t.learn_given = true, "learn_prompts was 0, now it is 1");
    DIFFERS((r.t.schedule.n_exits = 2, r.t.schedule.exit[0] = 2, r.t.schedule.exit[1] = 3), "exit_1 was 1, now it is 2");
    DIFFERS((r.t.schedule.n_exits = 1, r.t.schedule.exit[0] = 1), "exits was 2, now it is 1");
#undef DIFFERS
    r.t.keep = 0; /* these change nothing */
    r.t.look_every = 1;
    r.t.save_every = 3;
    must_run(&r, 0);
    toy_run_close(&r);
}

static void refuses_another_model(void **state)
{
    (void)state;
    struct toy_run r;
    char path[160];
    struct error err = {0};
    begin(&r);
    model_close(&r.texts.model);
    synthetic_path(path, sizeof path, "tiny", "bf16");
    assert_int_equal(model_open(&r.texts.model, path, NULL, &err), 0);
    must_fail(&r, ERR_USAGE, "model was ");
    toy_run_close(&r);
}

/* Another kind of device is no reason to refuse, but to say so, once. */
static void names_another_device(void **state)
{
    (void)state;
    struct toy_run r;
    begin(&r);
    const int notes = r.texts.notes;
    r.t.device = "cuda";
    r.stop_at = 9;
    must_run(&r, 1);
    assert_int_equal(r.texts.notes, notes + 1);
    assert_non_null(strstr(r.texts.last_note, "step-000007/trainer: was trained on cpu and goes on on cuda"));
    r.stop_at = 0;
    must_run(&r, 0); /* from its own checkpoint now */
    assert_int_equal(r.texts.notes, notes + 1);
    toy_run_close(&r);
}

/* Other text in the tokens' place. */
static void refuses_other_data(void **state)
{
    (void)state;
    struct toy_run r;
    char path[160];
    begin(&r);
    snprintf(path, sizeof path, "%s/data.tokens", r.folder);
    assert_int_equal(unlink(path), 0);
    char text[6000];
    memset(text, 'z', sizeof text);
    r.texts.n = 0;
    texts_add(&r.texts, "a.txt", text, sizeof text);
    must_fail(&r, ERR_USAGE, "data was 0x");
    toy_run_close(&r);
}

static void damage(const struct toy_run *r, const char *name, const char *bytes, size_t n)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", r->folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

static void damaged_checkpoints(void **state)
{
    (void)state;
    struct toy_run r;
    char from[200], to[200];
    begin(&r);
    damage(&r, "step-000007/trainer/model.safetensors", "\x02\0\0\0\0\0\0\0{}", 10);
    must_fail(&r, ERR_DATA, "step-000007/trainer: weight.embed: this checkpoint is damaged");
    damage(&r, "step-000007/trainer/model.safetensors", "\x02\0\0\0", 4);
    must_fail(&r, ERR_DATA, "step-000007/trainer");
    damage(&r, "step-000007/trainer/config.json", "{}", 2);
    damage(&r, "step-000007/trainer/model.safetensors", "\x02\0\0\0\0\0\0\0{}", 10);
    must_fail(&r, ERR_DATA, "step-000007/trainer: model: this checkpoint is damaged");
    snprintf(from, sizeof from, "%s/step-000007", r.folder);
    snprintf(to, sizeof to, "%s/bad", r.folder);
    assert_int_equal(rename(from, to), 0); /* the one before is whole */
    must_run(&r, 0);
    assert_int_equal(r.stepped, 7 + 8);
    toy_run_close(&r);
    begin(&r);
    snprintf(from, sizeof from, "%s/step-000007", r.folder);
    snprintf(to, sizeof to, "%s/step-000009", r.folder);
    assert_int_equal(rename(from, to), 0);
    must_fail(&r, ERR_DATA, "is not of step 9");
    toy_run_close(&r);
}

/* Whatever a killed run left is no checkpoint, and goes. */
static void leftovers(void **state)
{
    (void)state;
    struct toy_run r;
    char command[400];
    begin(&r);
    snprintf(command, sizeof command, "cd '%s' && cp -r step-000007 step-000009.tmp-123 && rm step-000009.tmp-123/model.safetensors && cp log.csv log.csv.tmp-9 && mkdir step-x step-0 && touch mine",
             r.folder);
    assert_int_equal(system(command), 0);
    struct error err = {0};
    assert_int_equal(save_newest(r.folder, &err), 7);
    assert_true(!run_has(&r, "step-000009.tmp-123") && !run_has(&r, "log.csv.tmp-9"));
    assert_true(run_has(&r, "mine") && run_has(&r, "step-x") && run_has(&r, "step-000007") && run_has(&r, "step-000005"));
    assert_int_equal(save_newest("/tmp/lsk-there-is-no-such-folder", &err), ERR_NOINPUT);
    toy_run_close(&r);
}

static void one_run_at_a_time(void **state)
{
    (void)state;
    struct toy_run r;
    begin(&r);
    r.t.resume = false;
    must_fail(&r, ERR_USAGE, "holds a run already (step 7)");
    toy_run_close(&r);
}

static void keeps_the_newest(void **state)
{
    (void)state;
    const struct {
        int keep, has2, has4, has6;
    } want[] = {{0, 1, 1, 1}, {1, 0, 0, 1}, {2, 0, 1, 1}};
    for (int i = 0; i < 3; i++) {
        struct toy_run r;
        toy_run_open(&r, "plain", 6);
        r.t.save_every = 2;
        r.t.keep = want[i].keep;
        must_run(&r, 0);
        assert_int_equal(run_has(&r, "step-000002"), want[i].has2);
        assert_int_equal(run_has(&r, "step-000004"), want[i].has4);
        assert_int_equal(run_has(&r, "step-000006"), want[i].has6);
        toy_run_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_what_differs), cmocka_unit_test(names_another_device), cmocka_unit_test(refuses_another_model), cmocka_unit_test(refuses_other_data), cmocka_unit_test(damaged_checkpoints),
        cmocka_unit_test(leftovers), cmocka_unit_test(one_run_at_a_time), cmocka_unit_test(keeps_the_newest),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
