/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "command.h"
#include "common.h"
#include "messages.h"
#include "record.h"

struct tokenize_args {
    struct model_args model;
    struct prompt_args prompt;
    struct show_args show;
    int ids, json, count;
};

static const struct option form_options[] = {
    {"ids", OPT_FLAG, offsetof(struct tokenize_args, ids), .help = "print the ids on one line"},
    {"json", OPT_FLAG, offsetof(struct tokenize_args, json),
     .help = "print an array of {id, piece}, and {bytes} of a piece that is not whole UTF-8 characters"},
    {"count", OPT_FLAG, offsetof(struct tokenize_args, count), .help = "print how many tokens there are, nothing else"},
    {0}};

static const struct option_group groups[] = {{"model", model_options, offsetof(struct tokenize_args, model)},
                                             {"model from the hub", hub_options, offsetof(struct tokenize_args, model.hub)},
                                             {"text", prompt_options, offsetof(struct tokenize_args, prompt)},
                                             {"output", form_options, 0},
                                             {"messages", show_options, offsetof(struct tokenize_args, show)},
                                             {0}};

/* A piece that is not whole characters, byte for byte: its text cannot say them. */
static void print_bytes(const char *piece, size_t n)
{
    size_t at = 0;
    for (int length = 1; at < n && length; at += (size_t)length)
        length = utf8_length(piece + at, n - at);
    for (size_t i = 0; at < n && i < n; i++)
        printf("%s%d", i ? ", " : ", \"bytes\": [", (unsigned char)piece[i]);
    fputs(at < n ? "]" : "", stdout);
}

static void print_tokens(const struct tokenize_args *a, const lsk_model *m, const int32_t *tokens, int n)
{
    for (int i = 0; i < n; i++) {
        size_t length = 0;
        const char *piece = lsk_piece(m, tokens[i], &length);
        if (a->json) {
            printf("%s{\"id\": %d, \"piece\": ", i ? ",\n " : "[", tokens[i]);
            print_json_string(stdout, piece, piece ? length : 0);
            print_bytes(piece, piece ? length : 0);
            putchar('}');
        } else if (a->ids) {
            printf("%s%d", i ? " " : "", tokens[i]);
        } else {
            printf("%8d  \"%s\"\n", tokens[i], piece_of(m, tokens[i]).text);
        }
    }
    fputs(a->json ? n ? "]\n" : "[]\n" : a->ids ? "\n" : "", stdout);
}

static int tokenize(const void *args, lsk_error *err)
{
    const struct tokenize_args *a = args;
    char *text = NULL;
    int32_t *tokens = NULL;
    size_t n_text = 0;
    lsk_model *m = NULL;
    int n = read_prompt(&a->prompt, &text, &n_text, err);
    if (n >= 0)
        n = (m = open_model(&a->model, &a->show, err)) ? 0 : err->code;
    if (n >= 0)
        n = encode_prompt(m, &a->prompt, text, n_text, &tokens, err);
    if (n >= 0 && a->count)
        printf("%d\n", n);
    else if (n >= 0)
        print_tokens(a, m, tokens, n);
    lsk_model_close(m);
    free(tokens);
    free(text);
    return n < 0 ? n : 0;
}

const struct command command_tokenize = {"tokenize",
                                         "shows the tokens of a text",
                                         "[MODEL] [-p TEXT | -f FILE] [OPTIONS]",
                                         "Prints each token's id and bytes, as `run` would give them to the model.",
                                         "  layerskip tokenize model.gguf -p \"Hello there\"\n"
                                         "  layerskip tokenize ./layerskip-llama2-7B -f story.txt --count\n",
                                         "model",
                                         groups,
                                         sizeof(struct tokenize_args),
                                         tokenize,
                                         NULL};
