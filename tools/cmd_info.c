/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "command.h"
#include "common.h"
#include "messages.h"
#include "profile.h"
#include "record.h"
#include "summary.h"

struct info_args {
    struct model_args model;
    struct head_args head;
    struct show_args show;
    int context, sessions, drafts, tensors, check, json;
};

static const struct option plan_options[] = {
    {"ctx-size c", OPT_INT, offsetof(struct info_args, context), "N", "0", 0, 1 << 30,
     .help = "plan memory for this many tokens; 0 is the model's maximum"},
    {"sessions", OPT_INT, offsetof(struct info_args, sessions), "N", "1", 1, 4096, .help = "and for this many replies at once"},
    {"num-speculations", OPT_INT, offsetof(struct info_args, drafts), "D", "12", 1, LSK_MAX_DRAFTS, .help = "and for this many drafts in a round"},
    {0}};

static const struct option form_options[] = {
    {"tensors", OPT_FLAG, offsetof(struct info_args, tensors), .help = "list the tensors as they are stored"},
    {"check", OPT_FLAG, offsetof(struct info_args, check),
     .help = "read every weight and warn of those that are no numbers (NaN, infinity); exit status 1 when there are any"},
    {"json", OPT_FLAG, offsetof(struct info_args, json), .help = "print JSON, one object in a line"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct info_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct info_args, model.hub)},
                                             {"memory plan", plan_options, 0},
                                             {"the head of drafts", head_options, offsetof(struct info_args, head)},
                                             {"output", form_options, 0},
                                             {"messages", show_options, offsetof(struct info_args, show)},
                                             {0}};

static void print_profile(const lsk_model_info *i, const struct profile *p)
{
    char path[4096];
    lsk_error err;
    if (p->draft.exit_layer)
        printf("LayerSkip      profile %s: drafts leave after layer %d of %d, %d in a round\n", p->source, p->draft.exit_layer, i->n_layers,
               p->draft.num_speculations);
    else if (*p->source)
        printf("LayerSkip      profile %s: plain decoding, drafting gained less than 3 %%\n", p->source);
    else
        printf("LayerSkip      no profile: decoding is plain unless --exit-layer or --num-speculations ask for drafts\n");
    if (profile_path(i, path, sizeof path, &err))
        return;
    fputs("               `layerskip sweep --auto` measures one for this machine, into ", stdout);
    print_shown(stdout, path);
    putchar('\n');
}

static void print_ids(const int32_t *id, int n)
{
    for (int k = 0; k < n; k++)
        printf("%s%d", k ? ", " : " ", id[k]);
    fputs(n ? "" : " none", stdout);
}

static void print_text(const lsk_model_info *i, const struct profile *profile)
{
    char b[3][96];
    fputs("path           ", stdout);
    print_shown(stdout, i->path);
    printf("\nformat         %s, stored mostly as %s, %s\nmodel          %s%s%s, %s parameters\n", i->format, i->file_type,
           bytes_text(i->file_bytes, b[0], 32), i->family, *i->name ? ", " : "", excerpt_of(i->name).text, count_text(i->n_params, b[1], 32));
    printf("shape          %d layers, hidden %d, ffn %d, %d heads of %d, %d KV heads, vocabulary %d%s\n", i->n_layers, i->hidden, i->ffn, i->n_heads,
           i->head_dim, i->n_kv_heads, i->n_vocab, i->tied ? ", head tied to the embedding" : "");
    printf("rotary         %s, theta %g; norm epsilon %g\ntokenizer      %s, bos", i->rope, i->rope_theta, i->norm_eps, i->tokenizer);
    print_ids(&i->bos, i->bos >= 0);
    fputs(", eos", stdout);
    print_ids(i->eos, i->n_eos);
    printf("%s\n", i->has_chat_template ? "; has a chat template" : "");
    if (i->temperature == 0)
        printf("generation     the model's files ask for greedy decoding\n");
    if (i->temperature > 0)
        printf("generation     the model's files suggest temperature %g, top-k %d, top-p %g, min-p %g (used where you give them)\n", i->temperature, i->top_k,
               i->top_p, i->min_p);
    if (*i->unused_advice) {
        fputs("generation     passed over: ", stdout);
        print_shown(stdout, i->unused_advice);
        putchar('\n');
    }
    print_profile(i, profile);
    printf("runs as        %s weights, %s KV cache, %s compute, on %s with %s kernels", i->weight_type, i->kv_type, i->compute, i->device, i->kernels);
    printf(i->threads ? " and %d threads\n" : "\n", i->threads);
    if (*i->device_note)
        printf("               %s\n", i->device_note);
    printf("one pass       reads %s: %d layers of %s and a head of %s\n", bytes_text(i->pass_bytes, b[0], 32), i->n_layers,
           bytes_text(i->layer_bytes, b[1], 32), bytes_text(i->head_bytes, b[2], 32));
    if (i->draft_tokens)
        printf("               %d frequent tokens are listed; a draft reads %s%s: --draft-head takes fewer of them\n", i->draft_tokens,
               i->draft_head ? "their head of " : "the whole head", i->draft_head ? bytes_text(i->draft_head_bytes, b[0], 32) : "");
    printf("memory         weights %s, KV cache %s for %d tokens, %s", bytes_text(i->memory.weights, b[0], 32),
           bytes_text(i->memory.kv, b[1], 32), i->context, scratch_text(&i->memory, b[2], sizeof b[2]));
    printf("; %s in all\n", bytes_text(i->memory.weights + i->memory.kv + i->memory.scratch, b[0], 32));
    printf("context        %d of at most %d tokens\n", i->context, i->context_max);
}

static void print_json(const lsk_model_info *i, const struct profile *profile)
{
    struct record r = {0};
    const struct {
        const char *key, *value;
    } texts[] = {{"id", i->id},
                 {"profile", profile->source},
                 {"path", i->path},
                 {"format", i->format},
                 {"family", i->family},
                 {"name", i->name},
                 {"file_type", i->file_type},
                 {"weight_type", i->weight_type},
                 {"kv_type", i->kv_type},
                 {"compute", i->compute},
                 {"device", i->device},
                 {"device_note", i->device_note},
                 {"kernels", i->kernels},
                 {"tokenizer", i->tokenizer},
                 {"unused_advice", i->unused_advice},
                 {"rope", i->rope}};
    const struct {
        const char *key;
        uint64_t value;
    } wholes[] = {{"n_layers", (uint64_t)i->n_layers},
                  {"hidden", (uint64_t)i->hidden},
                  {"ffn", (uint64_t)i->ffn},
                  {"n_heads", (uint64_t)i->n_heads},
                  {"n_kv_heads", (uint64_t)i->n_kv_heads},
                  {"head_dim", (uint64_t)i->head_dim},
                  {"n_vocab", (uint64_t)i->n_vocab},
                  {"context_max", (uint64_t)i->context_max},
                  {"context", (uint64_t)i->context},
                  {"batch", (uint64_t)i->batch},
                  {"threads", (uint64_t)i->threads},
                  {"n_params", i->n_params},
                  {"file_bytes", i->file_bytes},
                  {"layer_bytes", i->layer_bytes},
                  {"head_bytes", i->head_bytes},
                  {"pass_bytes", i->pass_bytes},
                  {"draft_tokens", (uint64_t)i->draft_tokens},
                  {"draft_head", (uint64_t)i->draft_head},
                  {"draft_head_bytes", i->draft_head_bytes},
                  {"memory_weights", i->memory.weights},
                  {"memory_kv", i->memory.kv},
                  {"memory_scratch", i->memory.scratch},
                  {"memory_drafts", i->memory.drafts},
                  {"exit_layer", (uint64_t)i->exit_layer},
                  {"num_speculations", (uint64_t)i->num_speculations},
                  {"tied", (uint64_t)i->tied},
                  {"has_chat_template", (uint64_t)i->has_chat_template}};
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++)
        record_text(&r, texts[k].key, texts[k].value);
    for (size_t k = 0; k < sizeof wholes / sizeof *wholes; k++)
        record_whole(&r, wholes[k].key, wholes[k].value);
    record_number(&r, "bos", "%.0f", i->bos < 0 ? NAN : (double)i->bos);
    record_number(&r, "rope_theta", "%.6g", i->rope_theta);
    record_number(&r, "norm_eps", "%.6g", i->norm_eps);
    record_number(&r, "temperature", "%.6g", i->temperature < 0 ? NAN : i->temperature);
    record_number(&r, "top_p", "%.6g", i->top_p);
    record_number(&r, "min_p", "%.6g", i->min_p);
    record_whole(&r, "top_k", (unsigned)i->top_k);
    record_json(stdout, &r);
    putchar('\n');
}

static int warn(void *progress, const char *line)
{
    progress_end(progress);
    print_warning(line);
    return terminal_interrupted();
}

/* Reads every weight. 1 when some are no numbers. */
static int check(const lsk_model *m, const struct show_args *show, int json, lsk_error *err)
{
    struct progress progress = progress_start(show->progress);
    fflush(stdout); /* what is known so far, before minutes of reading */
    int n = lsk_model_check(m, progress_show, warn, &progress, err);
    progress_end(&progress);
    terminal_release();
    if (n >= 0 && json)
        printf("{\"damaged_tensors\": %d}\n", n);
    else if (n > 0)
        printf("weights        %d tensor%s DAMAGED: stored values are no numbers (NaN, infinity)\n", n, n == 1 ? " is" : "s are");
    else if (n == 0)
        puts("weights        every stored value is a number");
    return n > 0 ? 1 : n;
}

static void print_tensor(const char *line, int json)
{
    struct record r = {0};
    record_text(&r, "tensor", line);
    if (json)
        record_json(stdout, &r);
    else
        print_shown(stdout, line);
    putchar('\n');
}

static int info(const void *args, lsk_error *err)
{
    const struct info_args *a = args;
    char line[256];
    lsk_model *m = open_model(&a->model, &a->show, err);
    if (!m)
        return err->code;
    struct profile profile = profile_find(lsk_model_about(m));
    lsk_model_options needs = {
        .context = a->context, .sessions = a->sessions, .max_drafts = a->drafts, .profile = &profile.draft, .load = LSK_LOAD_PLAN};
    int r = apply_head(&a->head, &needs, err);
    r = r < 0 ? r : load_model(m, &a->model, &a->show, &needs, err);
    if (r >= 0)
        (a->json ? print_json : print_text)(lsk_model_about(m), &profile);
    for (int i = 0; r >= 0 && a->tensors && lsk_model_tensor(m, i, line, sizeof line) > 0; i++)
        print_tensor(line, a->json);
    if (r >= 0 && a->check)
        r = check(m, &a->show, a->json, err);
    lsk_model_close(m);
    return r;
}

const struct command command_info = {
    "info",
    "shows what a model is and what memory it takes",
    "[MODEL] [OPTIONS]",
    "Reads the headers only and allocates nothing large. The memory plan is for --ctx-size tokens, without it for the model's maximum;\n"
    "`run` takes only what prompt and reply need.",
    "  layerskip info model.gguf\n"
    "  layerskip info ./layerskip-llama2-13B --weights q8 --ctx-size 4096 --json\n",
    "model",
    groups,
    sizeof(struct info_args),
    info,
    NULL};
