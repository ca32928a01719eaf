/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "common.h"
#include "messages.h"

struct source_args {
    const char *model, *start, *device;
    struct texts ignore_config;
    struct hub_args hub;
    int threads;
};
struct data_args {
    struct texts file;
    const char *document_end;
    int special, learn_prompts, bad_rows;
    double held_out;
};
struct recipe_args {
    const char *name;
    int steps, batch, accumulate, length;
    uint64_t seed;
    struct numbers exits;
    double rate, dropout, exit_scale, anchor, warmup, floor, decay, clip;
};
struct run_args {
    const char *folder;
    const char *fit;
    int resume, recompute, look_every, look_blocks, save_every, keep;
    double peak;
};
struct train_args {
    struct source_args source;
    struct data_args data;
    struct recipe_args recipe;
    struct run_args run;
    struct show_args show;
};

static const struct option source_options[] = {
    {"model m", OPT_TEXT, offsetof(struct source_args, model), "PATH", .instead = "hf-repo", .help = "the model to begin with: a Hugging Face folder or a .gguf file; it stays as it is"},
    {"start", OPT_TEXT, offsetof(struct source_args, start), "PATH",
     .help = "begin with the weights of this model of the same shape, a trained one say; -m stays what `distill` holds the last layer to"},
    {"device", OPT_TEXT, offsetof(struct source_args, device), NULL, "auto", .choices = "auto cpu cuda cuda:N", .help = "where the training runs; auto is the first GPU if there is one, else the CPU"},
    {"threads t", OPT_INT, offsetof(struct source_args, threads), "N", "0", 0, 1024, .help = "threads; 0 is one for every core"},
    {"ignore-config", OPT_TEXTS, offsetof(struct source_args, ignore_config), "KEY", .help = "pass over this unknown key of the model's configuration; may be repeated"},
    {0}};

static const struct option data_options[] = {
    {"data", OPT_TEXTS, offsetof(struct data_args, file), "FILE[:WEIGHT]",
     .help = "text to train on; may be repeated. A pass takes a file WEIGHT times: 2 is twice, 0.5 a half now and the other in the next pass; where there is a file of that whole name, it is meant. NAME.jsonl has a document in every line: {\"text\"}, {\"prompt\", \"response\"} or {\"tokens\", \"prompt_tokens\"}; any other file is one "
             "document of UTF-8 text"},
    {"document-end", OPT_TEXT, offsetof(struct data_args, document_end), "TOKEN", .help = "the token put behind every text; an empty one is none; else the model's end of text"},
    {"special", OPT_FLAG, offsetof(struct data_args, special), .help = "<|im_start|> and the like in the text are tokens"},
    {"learn-prompts", OPT_FLAG, offsetof(struct data_args, learn_prompts), .help = "learn the prompts of JSONL rows too, not the responses alone"},
    {"bad-rows", OPT_INT, offsetof(struct data_args, bad_rows), "N", "0", 0, 1 << 30, .help = "most rows that are passed over (and shown) because they cannot be used"},
    {"held-out", OPT_REAL, offsetof(struct data_args, held_out), "SHARE", "0.01", 0.0001, 0.5, .help = "share of the text that is only looked at, never trained on"},
    {0}};

static const struct option recipe_options[] = {
    {"recipe", OPT_TEXT, offsetof(struct recipe_args, name), "NAME", "distill", .help = "what is learnt and how; listed below"},
    {"steps", OPT_INT, offsetof(struct recipe_args, steps), "N", "0", 0, 1 << 30, .help = "steps of the run; 0 is one pass over the data"},
    {"batch-size b", OPT_INT, offsetof(struct recipe_args, batch), "N", "8", 1, 4096, .help = "sequences at once: as many as memory allows"},
    {"accumulate", OPT_INT, offsetof(struct recipe_args, accumulate), "N", "1", 1, 65536, .help = "batches in a step; batch x accumulate x length tokens make one step"},
    {"length", OPT_INT, offsetof(struct recipe_args, length), "N", "0", 0, 1 << 20, .help = "tokens of a sequence; 0 is 1024, or the model's context if that is less"},
    {"seed s", OPT_SEED, offsetof(struct recipe_args, seed), "N", "0", .help = "of the order of the text and of layer dropout"},
    {"exits", OPT_NUMBERS, offsetof(struct recipe_args, exits), "LIST", NULL, 1, 1023,
     .help = "exit layers that `distill` teaches and that are looked at; without it a quarter, a third and half of the layers"},
    {"rate", OPT_REAL, offsetof(struct recipe_args, rate), "R", "0", 0, 1, .help = "peak of the learning rate; 0 is the recipe's"},
    {"layer-dropout", OPT_REAL, offsetof(struct recipe_args, dropout), "P", "-1", -1, 0.999, .help = "how often the last layer is dropped, earlier ones less; -1 is the recipe's"},
    {"exit-scale", OPT_REAL, offsetof(struct recipe_args, exit_scale), "S", "-1", -1, 1, .help = "weight of the early exits; -1 is the recipe's"},
    {"anchor", OPT_REAL, offsetof(struct recipe_args, anchor), "W", "-1", -1, 1000, .help = "how much it weighs that the last layer stays what it was, beside exits of .5 to 1; -1 is the recipe's"},
    {"warmup", OPT_REAL, offsetof(struct recipe_args, warmup), "SHARE", "0.03", 0, 1, .help = "share of the steps in which the rate grows to its peak"},
    {"floor", OPT_REAL, offsetof(struct recipe_args, floor), "SHARE", "0.1", 0, 1, .help = "what is left of the peak at the end of the cosine"},
    {"weight-decay", OPT_REAL, offsetof(struct recipe_args, decay), "W", "-1", -1, 1, .help = "of AdamW; -1 is the recipe's"},
    {"clip", OPT_REAL, offsetof(struct recipe_args, clip), "NORM", "1", 0, 1e6, .help = "most norm of a step's gradient; 0 is no limit"},
    {0}};

static const struct option run_options[] = {
    {"out o", OPT_TEXT, offsetof(struct run_args, folder), "FOLDER", .help = "the folder of the run: tokens, log.csv and checkpoints step-N, each a Hugging Face folder"},
    {"resume", OPT_FLAG, offsetof(struct run_args, resume), .help = "go on from the folder's newest checkpoint, with the options that the run began with"},
    {"fit", OPT_CHOICE, offsetof(struct run_args, fit), NULL, NULL, .choices = "q8_0 q4_0 q4_1",
     .help = "train for weights that will be quantised to this type: passes see them rounded, the checkpoint keeps them whole"},
    {"recompute", OPT_FLAG, offsetof(struct run_args, recompute), .help = "compute activations again on the way back: less memory, about a third more time"},
    {"look-every", OPT_INT, offsetof(struct run_args, look_every), "N", "100", 0, 1 << 30, .help = "steps between looks at the held-out text; 0 is only before and after"},
    {"look-blocks", OPT_INT, offsetof(struct run_args, look_blocks), "N", "32", 1, 1 << 20, .help = "most sequences in one look"},
    {"save-every", OPT_INT, offsetof(struct run_args, save_every), "N", "500", 0, 1 << 30, .help = "steps between checkpoints; 0 is only at the end"},
    {"keep", OPT_INT, offsetof(struct run_args, keep), "K", "2", 0, 1 << 20, .help = "newest checkpoints that stay; 0 is all"},
    {"peak-tflops", OPT_REAL, offsetof(struct run_args, peak), "T", "0", 0, 1e6, .help = "the device's peak, to show how much of it is used"},
    {0}};

static const struct option_group groups[] = {{"model", source_options, offsetof(struct train_args, source)},
                                             {"model from the hub", hub_options, offsetof(struct train_args, source.hub)}, {"data", data_options, offsetof(struct train_args, data)},
                                             {"recipe", recipe_options, offsetof(struct train_args, recipe)}, {"run", run_options, offsetof(struct train_args, run)},
                                             {"messages", show_options, offsetof(struct train_args, show)}, {0}};

struct watcher {
    const struct train_args *args;
    struct progress progress;
    int64_t told_ns; /* last line where stderr is no terminal */
    char saved[512];
};

static void describe_time(double seconds, char *out, size_t cap)
{
    int s = (int)seconds;
    if (s >= 3600)
        snprintf(out, cap, "%dh%02dm", s / 3600, s / 60 % 60);
    else
        snprintf(out, cap, "%dm%02ds", s / 60, s % 60);
}

/* "E7 2.31/.52": cross-entropy, or KL where that is what the step knows, and agreement. */
static void describe_points(const lsk_train_event *e, char *out, size_t cap)
{
    size_t n = 0;
    *out = 0;
    for (int i = 0; i + 1 < e->n && n < cap; i++) {
        const lsk_train_point *p = &e->point[i];
        n += (size_t)snprintf(out + n, cap - n, "  E%d %.3f", p->layer, p->ce != 0 ? p->ce : p->kl);
        if (p->agree > 0 && n < cap)
            n += (size_t)snprintf(out + n, cap - n, " accepts %.3f", p->agree);
    }
}

static void describe_step(const struct watcher *w, const lsk_train_event *e, char *out, size_t cap)
{
    char left[32] = "?", points[400], last[48] = "", used[32] = "";
    if (e->left > 0)
        describe_time(e->left, left, sizeof left);
    if (w->args->run.peak > 0)
        snprintf(used, sizeof used, "  %.1f %% of peak", e->flops / w->args->run.peak * 1e-10);
    describe_points(e, points, sizeof points);
    if (e->n && e->point[e->n - 1].ce > 0)
        snprintf(last, sizeof last, "  last %.4f", e->point[e->n - 1].ce);
    else if (e->n)
        snprintf(last, sizeof last, "  KL to the original %.4f", e->point[e->n - 1].anchor);
    snprintf(out, cap, "step %d/%d  loss %.4f%s%s  norm %.2f  rate %.2e  %.0f tokens/s%s  %s left", e->step, e->steps, e->loss, last, points, e->norm, e->rate, e->speed, used, left);
}

static void tell(struct watcher *w, const char *line)
{
    progress_end(&w->progress);
    w->progress = progress_start(w->args->show.progress);
    print_shown(stderr, line);
    fputc('\n', stderr);
}

static void tell_start(struct watcher *w, const lsk_train_event *e)
{
    char line[800];
    snprintf(line, sizeof line, "%llu sequences to train on, %llu held out; %d steps; %.2f GiB of memory%s%s", (unsigned long long)e->blocks, (unsigned long long)e->held, e->steps,
             (double)e->memory / (1 << 30), e->text ? "; going on from " : "", e->text ? e->text : "");
    snprintf(w->saved, sizeof w->saved, "%s", e->text ? e->text : ""); /* of a run that has ended before: its last checkpoint */
    tell(w, line);
}

static int watch(void *ud, const lsk_train_event *e)
{
    struct watcher *w = ud;
    char line[1200], points[400], anchor[48] = "";
    switch (e->kind) {
    case LSK_TRAIN_STARTED: tell_start(w, e); break;
    case LSK_TRAIN_NOTE: tell(w, e->text); break;
    case LSK_TRAIN_SAVED: snprintf(w->saved, sizeof w->saved, "%s", e->text); break;
    case LSK_TRAIN_LOOKED:
        describe_points(e, points, sizeof points);
        if (e->point[e->n - 1].anchor > 0)
            snprintf(anchor, sizeof anchor, "  KL to the original %.4f", e->point[e->n - 1].anchor);
        snprintf(line, sizeof line, "held out, step %d: loss %.4f%s%s", e->step, e->loss, anchor, points);
        tell(w, line);
        break;
    default:
        describe_step(w, e, line, sizeof line);
        if (w->progress.on)
            progress_line(&w->progress, line);
        else if (w->args->show.progress && now_ns() - w->told_ns > 10000000000 && (w->told_ns = now_ns()))
            tell(w, line);
    }
    return terminal_interrupted();
}

/* Zero is the library's word for its default; here it is a number. */
static double number(double v) { return v == 0 ? -1 : v; }
static double or_recipe(double v) { return v < 0 ? 0 : number(v); }

struct sources {
    char *file[TEXTS_MAX + 1]; /* owned; NULL behind the last */
    double weight[TEXTS_MAX];
};

/* "FILE:0.5"; what stands behind the last colon belongs to the name where it is no number, or where there is a file of that whole name. */
static int split_weights(const struct texts *from, struct sources *out, lsk_error *err)
{
    for (int i = 0; i < from->n; i++) {
        char *colon = (out->file[i] = strdup(from->item[i])) ? strrchr(out->file[i], ':') : NULL;
        if (!out->file[i])
            return complain(err, LSK_EOS, "out of memory");
        out->weight[i] = 1;
        if (colon && access(from->item[i], F_OK) && !read_real(colon + 1, &out->weight[i]))
            *colon = 0;
    }
    return 0;
}

static int train(const void *args, lsk_error *err)
{
    const struct train_args *a = args;
    struct sources sources = {0};
    struct watcher w = {.args = a, .progress = progress_start(a->show.progress)};
    if (!a->run.folder)
        return complain(err, LSK_EUSAGE, "no folder given: -o FOLDER, where checkpoints go");
    if (!a->data.file.n && !a->run.resume)
        return complain(err, LSK_EUSAGE, "no text given: --data FILE, or `layerskip generate-corpus` makes some");
    if (check_device(a->source.device, err) < 0)
        return err->code;
    char *model = NULL;
    int r = find_model(a->source.model, &a->source.hub, a->show.progress, &model, err);
    if (!r)
        r = split_weights(&a->data.file, &sources, err);
    const lsk_train_options o = {
        .recipe = a->recipe.name, .start = a->source.start, .folder = a->run.folder, .data = a->data.file.n ? (const char *const *)sources.file : NULL, .weights = sources.weight, .device = a->source.device, .document_end = a->data.document_end,
        .special = a->data.special, .learn_prompts = a->data.learn_prompts, .bad_rows = a->data.bad_rows, .steps = a->recipe.steps, .batch = a->recipe.batch,
        .accumulate = a->recipe.accumulate, .length = a->recipe.length, .seed = seed_of(a->recipe.seed), .rate = a->recipe.rate, .layer_dropout = or_recipe(a->recipe.dropout),
        .exit_scale = or_recipe(a->recipe.exit_scale), .anchor = or_recipe(a->recipe.anchor), .warmup = number(a->recipe.warmup), .floor = number(a->recipe.floor), .decay = or_recipe(a->recipe.decay),
        .clip = number(a->recipe.clip), .held_out = a->data.held_out, .exits = a->recipe.exits.value, .n_exits = a->recipe.exits.n,
        .look_every = a->run.look_every ? a->run.look_every : -1, .look_blocks = a->run.look_blocks, .save_every = a->run.save_every ? a->run.save_every : -1,
        .keep = a->run.keep ? a->run.keep : -1, .resume = a->run.resume, .recompute = a->run.recompute, .fit = a->run.fit, .threads = a->source.threads,
        .ignore_config = a->source.ignore_config.n ? a->source.ignore_config.item : NULL, .progress = progress_show, .progress_ud = &w.progress,
    };
    if (!r)
        r = lsk_train(model, &o, watch, &w, err);
    for (int i = 0; i < a->data.file.n; i++)
        free(sources.file[i]);
    free(model);
    progress_end(&w.progress);
    terminal_release();
    if (r > 0)
        fprintf(stderr, "interrupted; --resume goes on from %s\n", *w.saved ? excerpt_of(w.saved).text : "the start");
    else if (r == 0 && *w.saved)
        printf("%s\n", w.saved);
    return r < 0 ? r : 0;
}

static void print_recipes(FILE *out)
{
    const char *help = NULL, *name;
    fprintf(out, "\nrecipes (layerskip-*: the published runs: layer dropout and early-exit loss as in the paper)\n");
    for (int i = 0; (name = lsk_recipe(i, &help)); i++)
        fprintf(out, "  %-30s %s\n", name, help);
    fprintf(out, "\nWhat the lines say\n"
                 "  loss is the step's objective; E7 is the exit behind 7 layers: its cross-entropy (a KL divergence with `distill`) and how often its likeliest\n"
                 "  token is the whole model's, which is the rate at which drafts from there are accepted. \"held out\" lines measure that on text never trained on.\n"
                 "  The folder's log.csv has all of it for `layerskip plot`. Ctrl-C ends the run behind a checkpoint.\n"
                 "How to choose\n"
                 "  Begin with `distill`: few tokens (10 to 100 million) give most of the speed. Memory: 16 bytes for every weight, and 4 more each with `distill` and with\n"
                 "  --fit (on a GPU 18, 2 more with `distill`, none with --fit), and activations: a smaller -b with a larger --accumulate, or --recompute, makes it fit.\n"
                 "  A loss that is no number: a lower --rate, a longer --warmup.\n");
}

const struct command command_train = {
    "train",
    "makes a LayerSkip checkpoint from a Llama-type one",
    "-m PATH --data FILE... -o FOLDER [OPTIONS]",
    "Continues a model's training so that its first layers draft well, with the published LayerSkip recipes or by distillation from its own last layer.\n"
    "The text is turned into tokens once; every checkpoint is a folder that layerskip and transformers open, and holds what --resume needs.\n"
    "A killed run loses the steps since its last checkpoint, no more.",
    "  layerskip train -m model.gguf --data corpus.jsonl -o run --steps 2000 --accumulate 4\n"
    "  layerskip train -m ./Llama-2-7b-hf --data a.txt --data b.txt:0.5 -o run --recipe layerskip-llama2-7b --steps 5000\n"
    "  layerskip train -m model.gguf -o run --steps 2000 --accumulate 4 --resume\n"
    "  layerskip plot run/log.csv -o curves.svg\n",
    "model",
    groups,
    sizeof(struct train_args),
    train,
    print_recipes};
