/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "common.h"
#include "messages.h"
#include "record.h"

enum { ROWS_MAX = 16 };

struct quantize_args {
    const char *in, *out, *type, *embed_type, *output_type, *part_size, *draft_tokens;
    int threads, exit_layer, num_speculations, pure, leave_output, allow_requantize, force, dry_run, json;
    struct texts ignore_config;
    struct show_args show;
};

#define TYPES "f32 f16 bf16 q8_0 q4_0 q4_1 q4_k q6_k copy"
#define MIXES TYPES " q4_k_s q4_k_m"
#define AT(field) offsetof(struct quantize_args, field)

static const struct option files[] = {
    {"in", OPT_TEXT, AT(in), "PATH", .help = "a Hugging Face folder, or a .safetensors or .gguf file (the first part of a split one)"},
    {"out o", OPT_TEXT, AT(out), "FILE", .help = "the .gguf file to write; it appears only when it is complete"},
    {"split-max-size", OPT_TEXT, AT(part_size), "SIZE", .help = "a larger file is written in parts of at most this, NAME-00001-of-0000N.gguf: 50M or 2G (millions, thousands of millions of bytes)"},
    {"force", OPT_FLAG, AT(force), .help = "replace files that are there"},
    {"dry-run", OPT_FLAG, AT(dry_run), .help = "only say what would be written"},
    {0}};

static const struct option weights[] = {
    {"type", OPT_TEXT, AT(type), .choices = MIXES, .help = "type of the matrices, in small or capital letters; copy: each as it is stored; q4_k_s and q4_k_m: q4_k, and q6_k "
     "for the head and for the values and ffn_down of some layers. Norms and biases are F32"},
    {"embed-type token-embedding-type", OPT_TEXT, AT(embed_type), .choices = TYPES, .help = "type of the embedding; without it that of the matrices, but q8_0 where they have 4 bits (q6_k with q4_k)"},
    {"output-type output-tensor-type", OPT_TEXT, AT(output_type), .choices = TYPES, .help = "the same for the head (the embedding too where it is the head)"},
    {"leave-output-tensor", OPT_FLAG, AT(leave_output), .help = "the same as --output-type copy"},
    {"pure", OPT_FLAG, AT(pure), .help = "embedding and head have the matrices' type also where that has 4 bits"},
    {"exit-layer", OPT_INT, AT(exit_layer), "E", "0", 0, 1023, .help = "LayerSkip profile for the file: layers that drafts run; 0 is the model's own profile, if it has one"},
    {"num-speculations draft-max", OPT_INT, AT(num_speculations), "N", "0", 0, LSK_MAX_DRAFTS, .help = "the same: most drafts in a round"},
    {"draft-tokens", OPT_TEXT, AT(draft_tokens), "FILE[:N]", .help = "the same: list the N most frequent tokens of this text (of a .jsonl: of its responses), for drafts to be chosen among; without N as many as "
     "make 99 % of it, by 256. Texts like those that the model shall write, best its own"},
    {"allow-requantize", OPT_FLAG, AT(allow_requantize), .help = "take weights from one quantised type to another, which adds the errors of both"},
    {0}};

static const struct option running[] = {{"threads t", OPT_INT, AT(threads), "N", "0", 0, 1024, .help = "threads; 0 is one for every core"},
                                        {"ignore-config", OPT_TEXTS, AT(ignore_config), "KEY", .help = "pass over a config key that is not known; may be given several times"},
                                        {"json", OPT_FLAG, AT(json), .help = "the report as one JSON object"},
                                        {0}};

static const struct option_group groups[] = {{"files", files, 0}, {"weights", weights, 0}, {"running", running, 0}, {"messages", show_options, AT(show)}, {0}};

/* "50M" or "2G" of bytes, as gguf-split counts them. */
static int read_size(const char *text, uint64_t *out, lsk_error *err)
{
    char number[24] = "";
    size_t n = strlen(text);
    uint64_t unit = n && text[n - 1] == 'M' ? 1000000 : n && text[n - 1] == 'G' ? 1000000000 : 0;
    if (unit && n < sizeof number)
        memcpy(number, text, n - 1);
    if (read_natural(number, out) || !*out || *out > INT64_MAX / unit)
        return complain(err, LSK_EUSAGE, "--split-max-size: \"%s\": give a number and M or G, like 50M", excerpt_of(text).text);
    *out *= unit;
    return 0;
}

/* "replies.jsonl:4096": file gets the text's name, n the number behind it, or 0. */
static int read_draft_tokens(const char *text, char *file, size_t cap, int *n, lsk_error *err)
{
    const char *colon = strrchr(text, ':');
    uint64_t number = 0;
    int counted = colon && !read_natural(colon + 1, &number);
    size_t length = counted ? (size_t)(colon - text) : strlen(text);
    if (!length || length >= cap || (counted && (number < 1 || number > INT32_MAX)))
        return complain(err, LSK_EUSAGE, "--draft-tokens: \"%s\": give a file of text, and perhaps how many tokens, like replies.jsonl:8192", excerpt_of(text).text);
    memcpy(file, text, length);
    file[length] = 0;
    *n = (int)number;
    return 0;
}

/* ---- the report ---- */

struct report {
    lsk_quantize_row row[ROWS_MAX];
    int n;
    struct progress *progress;
};

static void take_row(void *ud, const lsk_quantize_row *row)
{
    struct report *r = ud;
    if (r->n < ROWS_MAX)
        r->row[r->n++] = *row;
}

static void take_note(void *ud, const char *line)
{
    struct report *r = ud;
    progress_end(r->progress);
    fputs("note: ", stderr);
    print_shown(stderr, line);
    fputc('\n', stderr);
}

static void print_table(const struct report *r)
{
    printf("%-7s %7s %-6s    %-6s %12s %12s %10s %12s\n", "kind", "tensors", "from", "to", "bytes before", "after", "rms error", "largest");
    for (int i = 0; i < r->n; i++) {
        const lsk_quantize_row *w = &r->row[i];
        printf("%-7s %7d %-6s -> %-6s %12llu %12llu", w->kind, w->tensors, w->from, w->to, (unsigned long long)w->bytes_before, (unsigned long long)w->bytes_after);
        if (w->rms_error < 0)
            printf(" %10s %12s\n", "-", "-");
        else
            printf(" %10.3g %12.3g\n", w->rms_error, w->max_error);
    }
    const lsk_quantize_row *all = &r->row[r->n - 1];
    printf("%.2f bits a weight; rms error: of the values' own root mean square\n", 8 * (double)all->bytes_after / (double)all->values);
}

static void print_json(const struct quantize_args *a, const struct report *r, int n_files)
{
    struct record head = {0};
    record_text(&head, "in", a->in);
    if (a->out)
        record_text(&head, "out", a->out);
    record_whole(&head, "files", (unsigned long long)n_files);
    record_raw(&head, "written", a->dry_run ? "false" : "true");
    printf("{\"about\": ");
    record_json(stdout, &head);
    printf(", \"kinds\": [");
    for (int i = 0; i < r->n; i++) {
        const lsk_quantize_row *w = &r->row[i];
        struct record one = {0};
        record_text(&one, "kind", w->kind);
        record_text(&one, "from", w->from);
        record_text(&one, "to", w->to);
        record_whole(&one, "tensors", (unsigned long long)w->tensors);
        record_whole(&one, "values", w->values);
        record_whole(&one, "bytes_before", w->bytes_before);
        record_whole(&one, "bytes_after", w->bytes_after);
        if (w->rms_error >= 0) {
            record_number(&one, "rms_error", "%.6g", w->rms_error);
            record_number(&one, "max_error", "%.6g", w->max_error);
        }
        printf("%s\n  ", i ? "," : "");
        record_json(stdout, &one);
    }
    printf("]}\n");
}

static int quantize(const void *args, lsk_error *err)
{
    const struct quantize_args *a = args;
    struct progress progress = progress_start(a->show.progress);
    struct report r = {.progress = &progress};
    lsk_quantize_options o = {.type = a->type, .embed_type = a->embed_type, .output_type = a->leave_output && !a->output_type ? "copy" : a->output_type, .pure = a->pure, .allow_requantize = a->allow_requantize, .force = a->force, .profile = {a->exit_layer, a->num_speculations},
                              .dry_run = a->dry_run, .threads = a->threads, .ignore_config = a->ignore_config.item, .progress = progress_show, .progress_ud = &progress,
                              .row = take_row, .note = take_note, .report_ud = &r};
    int n = a->part_size ? read_size(a->part_size, &o.part_bytes, err) : 0;
    char draft_text[4096];
    if (!n && a->draft_tokens) {
        n = read_draft_tokens(a->draft_tokens, draft_text, sizeof draft_text, &o.draft_tokens, err);
        o.draft_text = draft_text;
    }
    if (!n && !a->in)
        n = complain(err, LSK_EUSAGE, "no input given: which checkpoint shall be converted?");
    if (!n && !a->out && !a->dry_run)
        n = complain(err, LSK_EUSAGE, "no output given: which file shall be written?");
    if (!n && !a->type)
        n = complain(err, LSK_EUSAGE, "no type given: --type one of " MIXES);
    if (n)
        return n;
    n = lsk_quantize(a->in, a->out, &o, err);
    progress_end(&progress);
    terminal_release();
    if (n < 0)
        return n;
    if (a->json)
        print_json(a, &r, n);
    else
        print_table(&r);
    if (!a->dry_run)
        fprintf(stderr, "wrote %s%s\n", excerpt_of(a->out).text, n > 1 ? " in parts" : "");
    return 0;
}

const struct command command_quantize = {
    "quantize",
    "writes a checkpoint as GGUF, with weights of 32, 16, 8, 6 or 4 bits",
    "[OPTIONS] IN OUT [TYPE [THREADS]]",
    "From a Hugging Face folder or a GGUF file to GGUF: what this program and llama.cpp and its kin load. A weight is rounded once, to the nearest value of the\n"
    "type, as --weights does it while loading. The report says for each kind of tensor what it takes and how far values moved.",
    "  layerskip quantize ./layerskip-llama3.2-1B layerskip-1b-q4_k_m.gguf --type q4_k_m\n"
    "  layerskip quantize model.gguf small.gguf q4_0 --output-type f16 --split-max-size 50M\n",
    "in out type threads",
    groups,
    sizeof(struct quantize_args),
    quantize,
    NULL};
