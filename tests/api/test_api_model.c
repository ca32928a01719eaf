/* SPDX-License-Identifier: Apache-2.0 */
/* What layerskip.h promises of models: options, what lsk_model_about says, and that memory is what was said. */
#define TEST_DEVICE "cpu"
#include <math.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "synthetic.h"

static struct folder folder;

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder, "tiny");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(&folder);
    return 0;
}

static void test_version(void **state)
{
    (void)state;
    assert_string_equal(lsk_version(), LSK_VERSION);
}

/* Each is refused by name, value and what may stand there, before weights are read and with them. */
static void test_options_are_checked(void **state)
{
    (void)state;
    static const struct {
        lsk_model_options o;
        const char *word, *choices;
    } bad[] = {
        {{.device = "gpu"}, "device \"gpu\"", "cpu"},
        {{.device = "cpu:1"}, "device \"cpu:1\"", "cpu"},
        {{.weights = "q5"}, "weights \"q5\"", "file, bf16, q8 or q4"},
        {{.kv = "f16"}, "kv \"f16\"", "auto, bf16, f32"},
        {{.compute = "bf16"}, "compute \"bf16\"", "native, f32"},
        {{.kernels = "sse"}, "kernels \"sse\"", "auto or plain"},
        {{.threads = -1}, "threads -1", "0 to 1024"},
        {{.threads = 1025}, "threads 1025", "0 to 1024"},
        {{.context = -1}, "context -1", "0 to"},
        {{.context = 4097}, "context 4097", "4096"},
        {{.context = 1 << 25}, "context 33554432", "0 to"},
        {{.sessions = -1}, "sessions -1", "0 to 4096"},
        {{.sessions = 5000}, "sessions 5000", "0 to 4096"},
        {{.batch = -1}, "batch -1", "0 to 65536"},
        {{.max_drafts = -1}, "max_drafts -1", "0 to 32"},
        {{.max_drafts = 33}, "max_drafts 33", "0 to 32"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int load = 0; load < 2; load++) {
            lsk_error err = {0};
            lsk_model_options o = bad[i].o;
            o.device = o.device ? o.device : "cpu";
            o.load = load ? LSK_LOAD_PLAN : LSK_LOAD_ALL;
            if (lsk_model_open(folder.path, &o, &err))
                fail_msg("%s was taken", bad[i].word);
            assert_int_equal(err.code, LSK_EUSAGE);
            if (!strstr(err.text, bad[i].word) || !strstr(err.text, bad[i].choices))
                fail_msg("\"%s\" or \"%s\" is not in: %s", bad[i].word, bad[i].choices, err.text);
        }
    assert_null(lsk_model_open(folder.path, &bad[0].o, NULL)); /* err may be NULL */
}

static void test_missing_model(void **state)
{
    (void)state;
    lsk_error err = {0};
    assert_null(lsk_model_open("/no/such/model", NULL, &err));
    assert_int_equal(err.code, LSK_ENOINPUT);
    assert_non_null(strstr(err.text, "/no/such/model"));
    lsk_model_close(NULL);
}

static void test_config_key_is_refused_or_ignored(void **state)
{
    (void)state;
    static const char *const ignore[] = {"moon_phase", NULL};
    lsk_error err = {0};
    folder_set(&folder, "config.json", "moon_phase", json_integer(3));
    assert_null(lsk_model_open(folder.path, NULL, &err));
    assert_int_equal(err.code, LSK_ECONFIG);
    assert_non_null(strstr(err.text, "moon_phase"));
    lsk_model_close(folder_open(&folder, &(lsk_model_options){.ignore_config = ignore, .load = LSK_LOAD_PLAN}));
}

static void test_about(void **state)
{
    (void)state;
    folder_set(&folder, "generation_config.json", "do_sample", json_true());
    folder_set(&folder, "generation_config.json", "temperature", json_real(0.5));
    lsk_model *m = folder_open(&folder, &(lsk_model_options){.context = 100, .threads = 1});
    const lsk_model_info *i = lsk_model_about(m);
    assert_string_equal(i->path, folder.path);
    assert_string_equal(i->format, "safetensors");
    assert_string_equal(i->family, "llama");
    assert_string_equal(i->file_type, "BF16");
    assert_string_equal(i->weight_type, "BF16");
    assert_string_equal(i->kv_type, "BF16");
    assert_string_equal(i->compute, "native");
    assert_string_equal(i->device, "cpu");
    assert_int_equal(i->batch, 256);
    const int want[] = {4, 64, 176, 4, 4, 16, 515, 4096, 100, 1, 0, 1, 0}, got[] = {i->n_layers, i->hidden, i->ffn,         i->n_heads, i->n_kv_heads, i->head_dim, i->n_vocab,
                                                                                    i->context_max, i->context, i->threads, i->tied,    i->bos,        i->n_eos};
    assert_memory_equal(want, got, sizeof want);
    assert_int_equal(i->n_params, 2 * 515 * 64 + 64 + 4 * (4 * 64 * 64 + 3 * 64 * 176 + 2 * 64));
    assert_int_equal(i->file_bytes, 2 * i->n_params);
    assert_int_equal(i->pass_bytes, 4 * i->layer_bytes + i->head_bytes);
    assert_true(fabs((double)i->temperature - 0.5) < 1e-6);
    assert_true(i->load_ns > 0);
    char text[64];
    int n = 0, seen = 0;
    for (; lsk_model_tensor(m, n, text, sizeof text) > 0; n++)
        seen += !strcmp(text, "layers.3.down BF16 64x176") || !strcmp(text, "norm BF16 64");
    assert_int_equal(n, 3 + 9 * 4);
    assert_int_equal(seen, 2);
    assert_int_equal(lsk_model_tensor(m, -1, text, sizeof text), 0);
    assert_int_equal(lsk_model_tensor(m, 0, text, 3), (int)strlen("embed BF16 515x64")); /* cut, and says how long it is */
    lsk_model_close(m);
}

/* ---- the plan is what is taken ---- */

static void test_plan_equals_load(void **state)
{
    (void)state;
    static const lsk_model_options all[] = {
        {.threads = 1},
        {.threads = 2, .context = 300, .sessions = 3, .kv = "f32"},
        {.threads = 1, .weights = "bf16", .compute = "f32", .batch = 8, .max_drafts = 32, .kernels = "plain"},
        {.threads = 1, .context = 1, .sessions = 20, .max_drafts = 3},
    };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        lsk_error err = {0};
        lsk_model_options o = all[k];
        lsk_model *loaded = folder_open(&folder, &o);
        o.load = LSK_LOAD_PLAN;
        lsk_model *plan = folder_open(&folder, &o);
        const lsk_model_info *a = lsk_model_about(loaded), *b = lsk_model_about(plan);
        assert_memory_equal(&a->memory, &b->memory, sizeof a->memory);
        assert_true(a->layer_bytes == b->layer_bytes && a->head_bytes == b->head_bytes && a->pass_bytes == b->pass_bytes);
        assert_string_equal(a->weight_type, b->weight_type);
        assert_string_equal(a->kv_type, b->kv_type);
        assert_string_equal(a->kernels, b->kernels);
        assert_int_equal(a->threads, b->threads);
        assert_true(a->memory.weights > a->pass_bytes && a->memory.kv > 0 && a->memory.scratch > a->memory.drafts);
        assert_null(lsk_session_open(plan, &err));
        assert_int_equal(err.code, LSK_EUSAGE);
        lsk_model_close(plan);
        lsk_model_close(loaded);
    }
}

static void test_tokenizer_alone(void **state)
{
    (void)state;
    lsk_error err = {0};
    int32_t ids[8];
    lsk_model *m = folder_open(&folder, &(lsk_model_options){.load = LSK_LOAD_TOKENIZER});
    assert_int_equal(lsk_encode(m, "abc", 3, 0, ids, 8, &err), 3);
    assert_int_equal(lsk_model_about(m)->n_layers, 4);
    assert_null(lsk_session_open(m, &err));
    assert_non_null(strstr(err.text, "without its weights"));
    lsk_model_close(m);
}

/* Opened for its tokenizer, a model can be loaded later: without another look at the headers, and again after a failure. */
static void test_load_completes(void **state)
{
    (void)state;
    lsk_error err = {0};
    lsk_model_options o = {.context = 5000, .threads = 1};
    lsk_model *m = folder_open(&folder, &(lsk_model_options){.load = LSK_LOAD_TOKENIZER});
    assert_int_equal(unlink(folder_file(&folder, "config.json")), 0);
    assert_int_equal(unlink(folder_file(&folder, "tokenizer.json")), 0);
    assert_int_equal(lsk_model_load(m, &o, &err), LSK_EUSAGE);
    assert_non_null(strstr(err.text, "context 5000"));
    assert_null(lsk_session_open(m, &err));
    o.context = 300;
    o.load = LSK_LOAD_PLAN;
    assert_int_equal(lsk_model_load(m, &o, &err), 0);
    const lsk_memory plan = lsk_model_about(m)->memory;
    assert_null(lsk_session_open(m, &err));
    o.load = LSK_LOAD_ALL;
    assert_int_equal(lsk_model_load(m, &o, &err), 0);
    assert_memory_equal(&plan, &lsk_model_about(m)->memory, sizeof plan);
    assert_int_equal(lsk_model_about(m)->context, 300);
    assert_int_equal(lsk_model_load(m, &o, &err), LSK_EUSAGE);
    assert_non_null(strstr(err.text, "loaded already"));
    lsk_session *s = must_session(m); /* and is as good as before */
    assert_int_equal(lsk_generate(s, (int32_t[]){5, 6}, 2, &(lsk_generate_options){.max_tokens = 3}, NULL, NULL, NULL, &err), 0);
    lsk_session_close(s);
    lsk_model_close(m);
}

static lsk_model_info about(const lsk_model_options *o)
{
    lsk_model *m = folder_open(&folder, o);
    lsk_model_info i = *lsk_model_about(m);
    lsk_model_close(m);
    return i;
}

/* Of a session: an index of its text, and 8 candidates after every token. */
static uint64_t free_drafts(const lsk_model_info *i)
{
    uint64_t lists = 256;
    while (lists < (uint64_t)i->context)
        lists *= 2;
    return 4 * (lists + (uint64_t)i->context) + 64 * (uint64_t)i->n_vocab;
}

/* The caller's profile stands in for the checkpoint's, also where it says that plain decoding is best. */
static void test_profile(void **state)
{
    (void)state;
    static const lsk_profile bad[] = {{4, 2}, {-1, 2}, {2, 33}, {2, -1}};
    lsk_model_options o = {.load = LSK_LOAD_PLAN, .threads = 1, .device = "cpu"};
    lsk_error err = {0};
    assert_int_equal(about(&o).exit_layer, 0);
    folder_set(&folder, "config.json", "layerskip", json_pack("{s:i}", "exit_layer", 2));
    lsk_model_info i = about(&o);
    assert_int_equal(i.exit_layer, 2);
    assert_int_equal(i.num_speculations, 4); /* not said */
    o.profile = &(lsk_profile){3, 20};
    i = about(&o);
    assert_int_equal(i.exit_layer, 3);
    assert_int_equal(i.num_speculations, 20);
    o.batch = 1;
    i = about(&o);
    assert_int_equal(i.memory.drafts - free_drafts(&i), 20 * 64 * 4); /* memory is taken for as many */
    o.profile = &(lsk_profile){0, 0};
    assert_int_equal(about(&o).exit_layer, 0);
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        o.profile = &bad[k];
        assert_null(lsk_model_open(folder.path, &o, &err));
        assert_int_equal(err.code, LSK_EUSAGE);
        assert_non_null(strstr(err.text, "profile: "));
    }
}

/* A list of frequent tokens is used, as much of it as the caller says, and costs what the plan says. */
static void test_draft_head(void **state)
{
    (void)state;
    static const struct {
        int asked, head;
    } cases[] = {{0, 40}, {-1, 0}, {16, 16}, {17, 17}, {40, 40}};
    lsk_model_options o = {.load = LSK_LOAD_PLAN, .threads = 1, .device = "cpu", .draft_head = 5};
    lsk_error err = {0};
    assert_null(lsk_model_open(folder.path, &o, &err));
    assert_int_equal(err.code, LSK_EUSAGE);
    assert_non_null(strstr(err.text, "lists no frequent tokens: `layerskip quantize"));
    o.draft_head = 0;
    assert_true(about(&o).draft_tokens == 0 && about(&o).draft_head == 0 && about(&o).draft_head_bytes == 0);
    json_t *list = json_array();
    for (int i = 0; i < 40; i++)
        json_array_append_new(list, json_integer(500 - 12 * i));
    folder_set(&folder, "config.json", "layerskip", json_pack("{s:o}", "draft_tokens", list));
    o.draft_head = -1;
    const uint64_t weights = about(&o).memory.weights;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        o.draft_head = cases[k].asked;
        lsk_model_info i = about(&o);
        assert_true(i.draft_tokens == 40 && i.draft_head == cases[k].head);
        assert_int_equal(i.memory.weights - weights, i.draft_head_bytes);
        assert_int_equal(i.draft_head_bytes, (cases[k].head + 15) / 16 * 16 * 64 * 2); /* by 16 rows of 64 bf16 */
    }
    o.draft_head = 41;
    assert_null(lsk_model_open(folder.path, &o, &err));
    assert_non_null(strstr(err.text, "draft head 41: ") && strstr(err.text, "lists 40 frequent tokens: give at most that") ? err.text : NULL);
}

/* A tied model's own head lies in the file and is never read. */
static void test_unused_head(void **state)
{
    (void)state;
    lsk_model_options o = {.load = LSK_LOAD_PLAN, .threads = 1};
    lsk_model_info with = about(&o);
    folder_set(&folder, "config.json", "tie_word_embeddings", json_true());
    lsk_model_info tied = about(&o);
    assert_true(tied.tied && tied.n_params == with.n_params - 515 * 64);
    assert_true(tied.file_bytes == with.file_bytes);
    assert_true(tied.head_bytes == with.head_bytes && tied.pass_bytes == with.pass_bytes); /* the embedding is the head */
    assert_true(tied.memory.weights < with.memory.weights);
}

/* Drafting costs hidden rows in flight and nothing else. */
static void test_drafts_add_rows_in_flight(void **state)
{
    (void)state;
    enum { SESSIONS = 10, ROW = 64 * 4 };
    lsk_memory memory[3];
    for (int i = 0; i < 3; i++) {
        lsk_model *m = folder_open(&folder, &(lsk_model_options){.load = LSK_LOAD_PLAN, .context = 64, .sessions = SESSIONS, .batch = 1, .max_drafts = 1 << i, .threads = 1});
        memory[i] = lsk_model_about(m)->memory;
        assert_int_equal(memory[i].drafts, (SESSIONS * ROW << i) + SESSIONS * free_drafts(lsk_model_about(m)));
        assert_int_equal(memory[i].scratch - memory[0].scratch, memory[i].drafts - memory[0].drafts);
        assert_true(memory[i].weights == memory[0].weights && memory[i].kv == memory[0].kv);
        lsk_model_close(m);
    }
    lsk_model *m = folder_open(&folder, &(lsk_model_options){.load = LSK_LOAD_PLAN, .context = 64, .batch = 256, .threads = 1});
    assert_int_equal(lsk_model_about(m)->memory.drafts, free_drafts(lsk_model_about(m))); /* the rows of a prompt batch serve */
    lsk_model_close(m);
}

/* ---- resident memory ---- */

#if !SANITIZED
enum { MEBI = 1 << 20 };

static uint64_t status_bytes(const char *key)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)))
            sscanf(line + strlen(key), ": %llu", &kib);
    if (f)
        fclose(f);
    return (uint64_t)kib * 1024;
}

/* In a process of its own, whose peak starts at what it has: opens, answers, and returns how far the peak rose beyond weights + touched KV + scratch, in MiB. */
static int measure_peak(const char *path, const lsk_model_options *o, int touched)
{
    lsk_error err = {0};
    int32_t ids[64];
    uint64_t start = status_bytes("VmRSS");
    lsk_model *m = lsk_model_open(path, o, &err);
    lsk_session *s = m ? lsk_session_open(m, &err) : NULL;
    if (!s)
        return -1;
    for (int i = 0; i < 64; i++)
        ids[i] = 300 + i;
    if (lsk_generate(s, ids, 64, &(lsk_generate_options){.max_tokens = 8, .drafter = "exit", .exit_layer = 1}, NULL, NULL, NULL, &err))
        return -1;
    const lsk_memory *p = &lsk_model_about(m)->memory;
    uint64_t kv = p->kv * (uint64_t)touched / (uint64_t)lsk_model_about(m)->context, peak = status_bytes("VmHWM") - start, plan = p->weights + kv + p->scratch;
    print_message("%s: peak %d MiB, weights %d, KV touched %d, scratch %d\n", o->weights ? o->weights : "file", (int)(peak / MEBI), (int)(p->weights / MEBI), (int)(kv / MEBI),
                  (int)(p->scratch / MEBI));
    bool held = peak + (4 << 20) >= p->weights; /* or the measuring is wrong */
    return !held ? -1 : peak <= plan ? 0 : (int)((peak - plan) / MEBI) + 1;
}

/* The layers and vocabulary of a 1.1B model, two layers of it: a second copy of anything, even of one matrix of the head, would be twice what is allowed. */
static void test_peak_memory(void **state)
{
    (void)state;
    struct folder big;
    folder_make_of(&big, &(lsk_synth_options){.shape = "tinyllama-1.1b", .layers = 2, .threads = 2});
    static const lsk_model_options all[] = {{.device = "cpu", .context = 2048, .threads = 2}, {.device = "cpu", .context = 2048, .threads = 2, .weights = "q8"}};
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(measure_peak(big.path, &all[i], 256) & 255);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_in_range(WEXITSTATUS(status), 0, 64);
    }
    folder_remove(&big);
}
#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_version),
        TEST(test_options_are_checked),
        TEST(test_missing_model),
        TEST(test_config_key_is_refused_or_ignored),
        TEST(test_about),
        TEST(test_plan_equals_load),
        TEST(test_tokenizer_alone),
        TEST(test_load_completes),
        TEST(test_profile), TEST(test_draft_head),
        TEST(test_unused_head),
        TEST(test_drafts_add_rows_in_flight),
#if !SANITIZED
        TEST(test_peak_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
