/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "common.h"
#include "messages.h"

struct synth_args {
    const char *shape, *folder, *dtype, *device;
    uint64_t seed;
    double shard_gib;
    int tie, layers, threads, agreement, agreement_tokens;
    struct show_args show;
};

static const struct option synth_options[] = {
    {"out o", OPT_TEXT, offsetof(struct synth_args, folder), "FOLDER",
     .help = "the folder to write; it must not exist, and appears only when it is complete"},
    {"shape", OPT_TEXT, offsetof(struct synth_args, shape), "NAME", .help = "shape of the model, listed below"},
    {"seed s", OPT_SEED, offsetof(struct synth_args, seed), "N", "1", .help = "equal seeds give equal weights; -1 is another one each time"},
    {"layers", OPT_INT, offsetof(struct synth_args, layers), "N", "0", 0, 1024, .help = "layers to write; 0 is as many as the shape has"},
    {"dtype", OPT_CHOICE, offsetof(struct synth_args, dtype), NULL, "bf16", .choices = "bf16 f16 f32", .help = "type of the weights"},
    {"tie", OPT_FLAG, offsetof(struct synth_args, tie),
     .help = "the head shares the embedding (such a model repeats its input: for tests of loading)"},
    {"shard-size", OPT_REAL, offsetof(struct synth_args, shard_gib), "GIB", "4", 0.0001, 1024, .help = "size of one safetensors file, in GiB"},
    {"threads t", OPT_INT, offsetof(struct synth_args, threads), "N", "0", 0, 1024, .help = "threads; 0 is one for every core"},
    {0}};

static const struct option agreement_options[] = {{"agreement", OPT_FLAG, offsetof(struct synth_args, agreement),
                                                   .help = "then run the model: how often does each exit layer pick what the whole model picks?"},
                                                  {"device", OPT_TEXT, offsetof(struct synth_args, device), NULL, "auto", .choices = "auto cpu cuda cuda:N",
                                                   .help = "where it runs for that: auto is the first GPU where one can be used, else the CPU"},
                                                  {"agreement-tokens", OPT_INT, offsetof(struct synth_args, agreement_tokens), "N", "128", 2, 4096,
                                                   .help = "random tokens that are compared for it"},
                                                  {0}};

static const struct option_group groups[] = {
    {"checkpoint", synth_options, 0}, {"measuring", agreement_options, 0}, {"messages", show_options, offsetof(struct synth_args, show)}, {0}};

struct picks {
    int32_t *token; /* one for each row */
    int distinct, equal;
    const int32_t *expected; /* the whole model's, or NULL while those are made */
};

static int take_row(void *ud, int row, const float *logits, int n_vocab)
{
    struct picks *p = ud;
    int best = 0;
    for (int v = 1; v < n_vocab; v++)
        if (logits[v] > logits[best])
            best = v;
    p->token[row] = best;
    int seen = 0;
    for (int i = 0; i < row && !seen; i++)
        seen = p->token[i] == best;
    p->distinct += !seen;
    p->equal += p->expected && p->expected[row] == best;
    return terminal_interrupted();
}

/* Agreement of every exit with the whole model over one random prompt. */
static int print_agreement(lsk_session *s, const lsk_model_info *info, int n, uint64_t seed, lsk_error *err)
{
    int32_t *memory = malloc(3 * (size_t)n * sizeof *memory), *prompt = memory, *full = memory + n, *early = full + n;
    if (!memory)
        return complain(err, LSK_EOS, "out of memory");
    for (int i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        prompt[i] = (int32_t)((seed >> 33) % (uint64_t)info->n_vocab);
    }
    struct picks whole = {.token = full};
    int r = lsk_score(s, prompt, n, 0, take_row, &whole, err);
    if (r >= 0)
        printf("exit layer  agreement over %d random tokens; all %d layers pick %d distinct tokens\n", n, info->n_layers, whole.distinct);
    for (int depth = 1; r >= 0 && depth < info->n_layers && !terminal_interrupted(); depth++) {
        struct picks p = {.token = early, .expected = full};
        r = lsk_score(s, prompt, n, depth, take_row, &p, err);
        if (r >= 0) {
            printf("%10d  %.3f  (%d distinct)\n", depth, (double)p.equal / n, p.distinct);
            fflush(stdout);
        }
    }
    free(memory);
    return r;
}

static int measure_agreement(const struct synth_args *a, uint64_t seed, lsk_error *err)
{
    struct model_args model = {.path = a->folder, .threads = a->threads, .device = a->device};
    lsk_model *m = open_model(&model, &a->show, err);
    int ready = m && load_model(m, &model, &a->show, &(lsk_model_options){.context = a->agreement_tokens + 1}, err) >= 0;
    lsk_session *s = ready ? lsk_session_open(m, err) : NULL;
    int r = s ? print_agreement(s, lsk_model_about(m), a->agreement_tokens, seed, err) : err->code;
    lsk_session_close(s);
    lsk_model_close(m);
    return r;
}

/* A shape's name must be one that the library has; the message tells which those are. */
static int check_shape(const char *shape, lsk_error *err)
{
    char shapes[400] = "", near[32] = "";
    size_t n = 0;
    int best = 99;
    for (int i = 0; lsk_shape(i, NULL) && n < sizeof shapes; i++) {
        if (shape && !strcmp(lsk_shape(i, NULL), shape))
            return 0;
        n += (size_t)snprintf(shapes + n, sizeof shapes - n, "%s%s", i ? " " : "", lsk_shape(i, NULL));
    }
    if (!shape)
        return complain(err, LSK_EUSAGE, "no shape given: --shape NAME, one of: %s", shapes);
    if (suggest(shapes, shape, near, sizeof near, &best))
        return complain(err, LSK_EUSAGE, "--shape: \"%s\" is none of: %s (did you mean %s?)", excerpt_of(shape).text, shapes, near);
    return complain(err, LSK_EUSAGE, "--shape: \"%s\" is none of: %s", excerpt_of(shape).text, shapes);
}

static int synth(const void *args, lsk_error *err)
{
    const struct synth_args *a = args;
    struct progress progress = progress_start(a->show.progress);
    int r = check_shape(a->shape, err);
    if (r >= 0)
        r = check_device(a->device, err);
    if (r >= 0 && !a->folder)
        r = complain(err, LSK_EUSAGE, "no folder given: where shall the checkpoint go?");
    if (r < 0)
        return r;
    lsk_synth_options o = {.shape = a->shape,
                           .seed = seed_of(a->seed),
                           .tie = a->tie,
                           .layers = a->layers,
                           .dtype = a->dtype,
                           .shard_bytes = (uint64_t)(a->shard_gib * (1 << 30)),
                           .threads = a->threads,
                           .progress = progress_show,
                           .progress_ud = &progress};
    r = lsk_synth(a->folder, &o, err);
    progress_end(&progress);
    terminal_release();
    if (r >= 0)
        fprintf(stderr, "wrote %s with seed %llu\n", excerpt_of(a->folder).text, (unsigned long long)o.seed);
    return r >= 0 && a->agreement ? measure_agreement(a, o.seed, err) : r;
}

static void print_shapes(FILE *out)
{
    const char *help = NULL, *name;
    fprintf(out, "\nshapes\n");
    for (int i = 0; (name = lsk_shape(i, &help)); i++)
        fprintf(out, "  %-18s %s\n", name, help);
}

const struct command command_synth = {
    "synth",
    "writes a checkpoint of random weights in a real model's shape",
    "--shape NAME [OPTIONS] FOLDER",
    "The weights are random, but scaled so that early exits agree with the whole model about as often as in a trained LayerSkip checkpoint:\n"
    "speed, memory and exactness can be tested at real size without the licensed weights. Any program that reads Hugging Face folders runs it.",
    "  layerskip synth --shape tiny /tmp/tiny --agreement\n"
    "  layerskip synth --shape llama2-7b --seed 7 /data/synth-7b\n",
    "out",
    groups,
    sizeof(struct synth_args),
    synth,
    print_shapes};
