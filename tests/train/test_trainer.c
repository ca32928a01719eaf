/* SPDX-License-Identifier: Apache-2.0 */
#include "toy_run.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "train/save.h"

static const char *const recipes[] = {"distill", "plain", "layerskip-llama2-7b", "layerskip-llama2-7b-scratch", "layerskip-topv2"};

static void runs_to_the_end(void **state)
{
    (void)state;
    struct toy_run r;
    toy_run_open(&r, "plain", 12);
    r.t.schedule.recipe.rate = 1e-2;
    must_run(&r, 0);
    assert_int_equal(r.started, 1);
    assert_int_equal(r.stepped, 12);
    assert_int_equal(r.looked, 4); /* before, after 4, 8 and 12 */
    assert_int_equal(r.saved, 3);  /* after 5, 10 and 12 */
    assert_true(r.last_look < r.first_look);
    assert_true(!run_has(&r, "step-000005") && run_has(&r, "step-000010") && run_has(&r, "step-000012"));
    assert_non_null(strstr(r.last_path, "run/step-000012"));
    toy_run_close(&r);
}

/* The same bits again; and, cut anywhere, the same bits as without the cut. */
static void resume_equals_no_interruption(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        struct toy_run whole, again, cut;
        toy_run_open(&whole, recipes[i], 13);
        must_run(&whole, 0);
        toy_run_open(&again, recipes[i], 13);
        must_run(&again, 0);
        same_file(&whole, &again, "step-000013/trainer/model.safetensors");
        same_file(&whole, &again, "step-000013/model.safetensors");
        toy_run_open(&cut, recipes[i], 13);
        cut.stop_at = 7;
        must_run(&cut, 1);
        assert_true(run_has(&cut, "step-000007") && !run_has(&cut, "step-000013"));
        cut.t.resume = true;
        cut.stop_at = 8;
        must_run(&cut, 1);
        cut.stop_at = 0;
        cut.t.corpus.n_files = 0; /* the tokens are there already */
        must_run(&cut, 0);
        same_file(&whole, &cut, "step-000013/trainer/model.safetensors");
        same_file(&whole, &cut, "step-000013/model.safetensors");
        same_file(&whole, &cut, "step-000013/trainer/config.json");
        texts_close(&whole.texts);
        texts_close(&again.texts);
        toy_run_close(&cut);
    }
}

static void open_weighted(struct toy_run *r)
{
    static const double weights[] = {0.5, 2.25};
    toy_run_open(r, "distill", 13);
    texts_add_text(&r->texts, "b.txt", "another text, of which more is taken than there is; another text, of which more is taken than there is");
    r->t.corpus.n_files = 2;
    r->t.corpus.weight = weights;
}

/* Where the weights are not said again, they are those that the run began with. */
static void weighted_run_goes_on(void **state)
{
    (void)state;
    static const double other[] = {0.5, 2};
    struct toy_run whole, cut, plain;
    open_weighted(&whole);
    must_run(&whole, 0);
    open_weighted(&cut);
    cut.stop_at = 6;
    must_run(&cut, 1);
    cut.t.resume = true;
    cut.stop_at = 0;
    cut.t.corpus.weight = other;
    must_fail(&cut, ERR_USAGE, "made from other files");
    cut.t.corpus.n_files = 0;
    must_run(&cut, 0);
    same_file(&whole, &cut, "step-000013/trainer/model.safetensors");
    open_weighted(&plain);
    plain.t.corpus.weight = NULL;
    must_run(&plain, 0);
    size_t n, m;
    char *p = run_file(&whole, "step-000013/trainer/model.safetensors", &n), *q = run_file(&plain, "step-000013/trainer/model.safetensors", &m);
    assert_true(n == m && memcmp(p, q, n));
    free(p);
    free(q);
    toy_run_close(&whole);
    toy_run_close(&cut);
    toy_run_close(&plain);
}

static void seeds_differ(void **state)
{
    (void)state;
    struct toy_run a, b;
    size_t n, m;
    toy_run_open(&a, "layerskip-llama2-7b", 3);
    must_run(&a, 0);
    toy_run_open(&b, "layerskip-llama2-7b", 3);
    b.t.schedule.seed = 4;
    must_run(&b, 0);
    char *p = run_file(&a, "step-000003/trainer/model.safetensors", &n), *q = run_file(&b, "step-000003/trainer/model.safetensors", &m);
    assert_int_equal(n, m);
    assert_memory_not_equal(p, q, n);
    free(p);
    free(q);
    texts_close(&a.texts);
    toy_run_close(&b);
}

static void a_loss_that_is_no_number(void **state)
{
    (void)state;
    struct toy_run r;
    toy_run_open(&r, "plain", 20);
    toy.nan_at = 2 * 7 + 1; /* the first call of step 8 */
    must_fail(&r, ERR_DATA, "after step 7: the loss is not finite; the checkpoint of step 5 is complete: begin again with a lower rate");
    assert_true(run_has(&r, "step-000005"));
    toy_run_close(&r);
    toy_run_open(&r, "plain", 20);
    toy.nan_at = 1;
    must_fail(&r, ERR_DATA, "after step 0: the loss is not finite; there is no checkpoint yet");
    toy_run_close(&r);
}

/* Killed at any moment a run goes on from its last checkpoint, and ends with the bits of one that was not. */
static void killed_at_any_moment(void **state)
{
    (void)state;
    struct toy_run whole, r;
    toy_run_open(&whole, "layerskip-llama2-7b", 20);
    whole.t.save_every = 2;
    must_run(&whole, 0);
    toy_run_open(&r, "layerskip-llama2-7b", 20);
    r.t.save_every = 2;
    uint64_t seed = 12345;
    int kills = 0, rc = 1;
    for (int round = 0; round < 60 && rc; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct error err = {0};
            toy.sleep_us = 500;
            _exit(toy_run(&r, &err) ? 1 : 0);
        }
        int status;
        usleep((useconds_t)(20000 + check_below(&seed, 60000 * (1 + round)))); /* however slow the machine, it comes to an end */
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        kills += WIFSIGNALED(status);
        rc = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        if (WIFEXITED(status) && rc)
            fail_msg("a resumed run failed");
        struct error err = {0};
        r.t.resume = save_newest(r.folder, &err) > 0;
    }
    assert_int_equal(rc, 0);
    assert_true(kills > 0);
    same_file(&whole, &r, "step-000020/trainer/model.safetensors");
    size_t n;
    char *log = run_file(&r, "log.csv", &n), *row = log; /* every step once, in order */
    for (int step = 1; step <= 20; step++) {
        char begins[32];
        snprintf(begins, sizeof begins, "\n%d,train,", step);
        row = strstr(row, begins);
        if (!row)
            fail_msg("step %d is not in the log, in its place: %.4000s", step, log);
    }
    free(log);
    texts_close(&whole.texts);
    toy_run_close(&r);
}

static void full_disk(void **state)
{
    (void)state;
    struct toy_run r;
    struct rlimit old, small;
    toy_run_open(&r, "plain", 20);
    r.stop_at = 5;
    must_run(&r, 1);
    r.stop_at = 0;
    r.t.resume = true;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 400000; /* the log fits, weights do not */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    must_fail(&r, ERR_IO, "the checkpoint of step 5 is complete");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_true(run_has(&r, "step-000005") && !run_has(&r, "step-000010"));
    must_run(&r, 0); /* space was made */
    assert_true(run_has(&r, "step-000020"));
    toy_run_close(&r);
}

static void refuses_nonsense(void **state)
{
    (void)state;
    struct toy_run r;
    toy_run_open(&r, "distill", 4);
    struct training good = r.t;
    r.t.batch = 0;
    must_fail(&r, ERR_USAGE, "batch 0: must be 1 to");
    r.t = good;
    r.t.length = 5000;
    must_fail(&r, ERR_USAGE, "length 5000: must be 2 to 4096");
    r.t = good;
    r.t.length = 4000;
    must_fail(&r, ERR_DATA, "too few for one block");
    r.t = good;
    r.t.n_look = 1;
    r.t.look[0] = 4;
    must_fail(&r, ERR_USAGE, "exit layer 4: this model has 4 layers: give 1 to 3");
    r.t = good;
    r.t.resume = true;
    must_fail(&r, ERR_NOINPUT, "no complete checkpoint");
    r.t = good;
    strcpy(r.folder + strlen(r.folder), "/no/such");
    must_fail(&r, ERR_CREATE, "no/such");
    toy_run_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_to_the_end), cmocka_unit_test(resume_equals_no_interruption), cmocka_unit_test(weighted_run_goes_on), cmocka_unit_test(seeds_differ), cmocka_unit_test(a_loss_that_is_no_number),
        cmocka_unit_test(killed_at_any_moment), cmocka_unit_test(full_disk), cmocka_unit_test(refuses_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
