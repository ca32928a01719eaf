/* SPDX-License-Identifier: Apache-2.0 */
/* Option groups that several commands share, and what their values mean to the library. */
#ifndef TOOLS_COMMON_H
#define TOOLS_COMMON_H

#include "hub.h"
#include "layerskip.h"
#include "options.h"
#include "terminal.h"

struct model_args {
    const char *path, *weights, *kv, *compute, *kernels, *device;
    int threads, batch;
    struct texts ignore_config;
    struct hub_args hub;
};
struct show_args {
    int progress;
};
struct prompt_args {
    const char *text, *file;
    int escape, special, bos;
};
struct sampling_args {
    double temperature, top_p, min_p;
    int top_k, sample;
    uint64_t seed;
};
struct draft_args {
    const char *strategy, *drafter;
    int exit_layer, num_speculations, depth;
    double min_conf;
};
struct head_args {
    const char *draft_head;
};

extern const struct option model_options[], show_options[], prompt_options[], sampling_options[], draft_options[], head_options[];

/* The model that the options name: headers and tokenizer; it may be downloaded first. NULL with err set. */
lsk_model *open_model(const struct model_args *a, const struct show_args *show, lsk_error *err);

/* Room for so many drafts in a round; what the library takes without being asked is enough for few, and leaves some to free drafts. */
void widen_drafts(lsk_model_options *needs, int drafts);

/* Then its weights (or their plan); `needs` brings context, max_drafts, sessions, profile and load. A GPU's memory plan is said on stderr before memory is taken. */
int load_model(lsk_model *m, const struct model_args *a, const struct show_args *show, const lsk_model_options *needs, lsk_error *err);
int plan_model(lsk_model *m, const struct model_args *a, const lsk_model_options *needs, lsk_error *err); /* the plan alone, without a word */

/* A prompt as bytes: from -p (escapes replaced), from a file, or from stdin when that is no terminal (one newline at the end is dropped). Caller
 * frees *text. */
int read_prompt(const struct prompt_args *a, char **text, size_t *n, lsk_error *err);
int read_stream(const char *path, char **text, size_t *n, lsk_error *err); /* "-": stdin */
size_t replace_escapes(char *text);                                        /* in place: \n \r \t \" \' \\ \xHH; returns the new length */

/* Caller frees *tokens. Returns how many there are. An error names a->file where the text is from there. */
int encode_prompt(const lsk_model *m, const struct prompt_args *a, const char *text, size_t n, int32_t **tokens, lsk_error *err);

uint64_t seed_of(uint64_t asked); /* itself; another one each time for UINT64_MAX, which is what -1 reads as */

/* Sampling and drafting options as the library wants them; the rest of *o is left as it is. */
int apply_sampling(const struct sampling_args *a, lsk_generate_options *o, lsk_error *err);
int apply_drafting(const struct draft_args *a, lsk_generate_options *o, lsk_error *err);

/* Stop strings as the library wants them: copies, escapes replaced where `escape` says so. Free them in any case. */
int copy_stops(const struct texts *given, int escape, struct texts *out, lsk_error *err);
void free_stops(struct texts *stops);

int apply_head(const struct head_args *a, lsk_model_options *needs, lsk_error *err);

int check_device(const char *device, lsk_error *err); /* auto, cpu, cuda, cuda:N */
int check_drafter(const char *names, lsk_error *err); /* one that there is, or several joined by + */
int check_exit_layer(const lsk_model_info *info, const char *flag, int exit_layer, lsk_error *err); /* before weights are loaded: 1 to layers - 1 */
int check_context(const lsk_model_info *info, const char *flag, int asked, int n_prompt, lsk_error *err); /* that many tokens behind a prompt (or 0) fit the model */

/* Like lsk_generate, but an interruption also ends it between the steps of a long prompt, and LSK_FINISH_ERROR is LSK_EDATA.
   In two parts: all tokens of the prompt but the last, whose pass gives the reply's first token; then the reply. */
int start_reply(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, struct progress *p, lsk_error *err);
int finish_reply(lsk_session *s, lsk_emit_fn emit, void *ud, lsk_error *err);
int reply(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, lsk_emit_fn emit, void *ud, lsk_error *err);

/* A token's bytes as show_character gives them; "" of no token. */
struct piece_text {
    char text[160];
};
struct piece_text piece_of(const lsk_model *m, int32_t token);

#endif
