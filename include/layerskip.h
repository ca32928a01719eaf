/* SPDX-License-Identifier: Apache-2.0 */
/* layerskip: run LayerSkip (and any Llama-type) checkpoints with exact self-speculative decoding.

   Conventions. `open` gives, `close` takes, everything else borrows for the call. A zeroed options struct means defaults. Functions return 0 or a
   count, below zero on failure (the negated exit code of <sysexits.h>) or NULL, and then *err (which may be NULL) says why in one line. The library never prints, exits or reads
   the environment. A model may be shared by threads once it is open; the sessions of one model are driven by one thread at a time.

   Compatibility. A struct that callers make keeps its size: new fields come out of `reserved`, and a library refuses options whose reserved part is not zero, since somebody asks for
   what it does not know. Structs that only the library makes grow at their end. */
#ifndef LAYERSKIP_H
#define LAYERSKIP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LSK_API __attribute__((visibility("default")))
#else
#define LSK_API
#endif

enum lsk_status {
    LSK_EUSAGE = -64,       /* an argument is wrong */
    LSK_EDATA = -65,        /* a file's content is wrong */
    LSK_ENOINPUT = -66,     /* a file is missing */
    LSK_EUNAVAILABLE = -69, /* a device is missing or lost */
    LSK_EINTERNAL = -70,    /* a bug of ours */
    LSK_EOS = -71,          /* out of memory, threads or descriptors */
    LSK_ECREATE = -73,      /* a file cannot be created */
    LSK_EIO = -74,          /* reading or writing failed */
    LSK_ECONFIG = -78       /* a model configuration that this engine refuses */
};

typedef struct lsk_error {
    int code;       /* one of lsk_status */
    char text[508]; /* one line */
} lsk_error;

typedef struct lsk_model lsk_model;     /* weights on a device, tokenizer, the pages of the KV cache */
typedef struct lsk_session lsk_session; /* one timeline of tokens and its place in the KV cache */

LSK_API const char *lsk_version(void); /* "0.1.0" */

/* ---- models ---- */

/* Called on the caller's thread while work goes on, and once before a first file is created: `what` is being done, `done` of `total` bytes. Non-zero stops it with LSK_EUSAGE. */
typedef int (*lsk_progress_fn)(void *ud, const char *what, uint64_t done, uint64_t total);

enum lsk_load {
    LSK_LOAD_ALL = 0,
    LSK_LOAD_TOKENIZER, /* tokenizer only: lsk_encode, lsk_piece, lsk_model_about; sessions are refused */
    LSK_LOAD_PLAN       /* reads headers, computes the memory plan, allocates no weights; sessions are refused */
};

enum { LSK_FEW_DRAFTS = 15, LSK_MAX_DRAFTS = 32 }; /* drafts of one round: what memory is taken for unasked, and the most */

/* How replies are drafted where nobody says otherwise. */
typedef struct lsk_profile {
    int exit_layer;       /* layers that the draft runs, 1..L-1; 0: plain decoding */
    int num_speculations; /* drafts in a round, at most LSK_MAX_DRAFTS; 0: 4 */
} lsk_profile;

typedef struct lsk_model_options {
    const char *device;  /* NULL or "auto": a GPU where one can be used, else "cpu"; "cuda", "cuda:1": that GPU */
    const char *weights; /* NULL or "file": as stored; "q8", "q4", "bf16": converted while loading */
    const char *kv;      /* NULL or "auto" (bf16; f32 with compute f32), "bf16", "f32" */
    const char *compute; /* NULL or "native"; "f32": float activations everywhere, for accuracy tests */
    const char *kernels; /* NULL or "auto": the fastest that this device has; on a CPU also "plain", "avx2", "avx512": that set */
    int threads;         /* 0: one for every core of this process */
    int context;         /* tokens that one session may hold; 0: the model's maximum */
    int sessions;        /* how many may be open at once; 0: 1. Memory for the KV cache of all of them is taken at open */
    int batch;           /* prompt tokens in one step; 0: 256, on a GPU 2048 */
    int max_drafts;      /* drafts of one round that memory is taken for; 0: LSK_FEW_DRAFTS, or the profile's if that is more (at most LSK_MAX_DRAFTS) */
    int draft_head;      /* how many of the model's most frequent tokens drafts are chosen among, which makes drafts cheaper and the text no other; 0: all that it lists (see draft_tokens of
                            lsk_model_info), and where it has no list all tokens; below 0: all tokens */
    const lsk_profile *profile; /* as measured here: stands in for the checkpoint's own; NULL: that one */
    enum lsk_load load;
    const char *const *ignore_config; /* config keys to pass over, NULL-terminated; or NULL. Each must be there and none that is used */
    lsk_progress_fn progress;         /* or NULL */
    void *progress_ud;
    uint64_t reserved[8]; /* zero */
} lsk_model_options;

typedef struct lsk_memory {
    uint64_t weights; /* packed weights, bytes */
    uint64_t kv;      /* KV cache */
    uint64_t scratch; /* activations, logits, in-flight rows */
    uint64_t drafts;  /* the part of scratch that exists only for self-speculation; a head for drafts is among the weights */
} lsk_memory;

typedef struct lsk_model_info {
    char id[17];                /* 16 hexadecimal digits over what the files say, wherever they lie: the same model has the same */
    const char *path, *format;  /* "safetensors", "gguf" */
    const char *family, *name;  /* "llama"; what the file calls itself, or "" */
    const char *file_type;      /* weight type that most bytes are stored as, e.g. "BF16", "Q4_1" */
    const char *weight_type;    /* and as they were loaded */
    const char *kv_type, *compute, *device, *kernels, *tokenizer, *rope;
    const char *device_note;    /* why device "auto" is the CPU; "" otherwise */
    int n_layers, hidden, ffn, n_heads, n_kv_heads, head_dim, n_vocab, context_max, context, batch, threads; /* batch: prompt tokens in one step; threads: 0 on a GPU */
    int tied;                   /* head shares the embedding */
    double rope_theta, norm_eps;
    uint64_t n_params, file_bytes; /* n_params: of the weights in use; a tied model's own head is not */
    uint64_t layer_bytes, head_bytes, pass_bytes; /* packed bytes that a layer (the mean of all), the head, a full decode pass read */
    lsk_memory memory;
    int32_t bos;                /* -1: none */
    int n_eos;
    int32_t eos[16];
    int n_kept;                       /* tensors that the file has quantised already and that `weights` therefore leaves as they are ... */
    const char *kept_type;            /* ... and the type of most of them, or NULL */
    int draft_tokens;                 /* most frequent tokens that the model lists; 0: it has no list */
    int draft_head;                   /* of them those that drafts are chosen among; 0: drafts use the whole head */
    uint64_t draft_head_bytes;        /* what the head of a draft reads then; part of memory.weights */
    int exit_layer, num_speculations; /* LayerSkip profile: lsk_model_options.profile, else the checkpoint's; 0: none */
    float temperature, top_p, min_p;  /* the checkpoint's generation defaults; temperature 0: greedy, < 0: none stated */
    int top_k;
    const char *unused_advice;        /* generation defaults that cannot be used and are passed over: keys, values and why; "" when all can */
    int has_chat_template;
    const char *ignored;              /* a config key that ignore_config passes over although it would change what the model computes, or NULL */
    int64_t load_ns;
} lsk_model_info;

/* path: a Hugging Face folder, a .safetensors or a .gguf file. Caller closes; on failure NULL, nothing is held. o may be NULL. */
LSK_API lsk_model *lsk_model_open(const char *path, const lsk_model_options *o, lsk_error *err);
LSK_API void lsk_model_close(lsk_model *m); /* NULL is fine; close its sessions first */

/* Loads what lsk_model_open left out: m was opened with LSK_LOAD_TOKENIZER or _PLAN, o is as there (ignore_config is not looked at: headers are not read again).
   So a prompt can be counted before memory is taken for it. On failure the model has no weights, as before, and can be loaded again. */
LSK_API int lsk_model_load(lsk_model *m, const lsk_model_options *o, lsk_error *err);
LSK_API const lsk_model_info *lsk_model_about(const lsk_model *m); /* borrowed; lives as long as m */

/* Tensor i as stored: "layers.0.q BF16 4096x4096". Returns the length of the text, 0 when i is past the last. */
LSK_API int lsk_model_tensor(const lsk_model *m, int i, char *out, size_t cap);

/* Reads every stored weight and reports each tensor that holds NaN or infinity, one line each; a non-zero return of report or progress (either may be NULL) stops it with LSK_EUSAGE.
   Returns how many such tensors there are. Needs no weights loaded (LSK_LOAD_PLAN will do). */
LSK_API int lsk_model_check(const lsk_model *m, lsk_progress_fn progress, int (*report)(void *ud, const char *line), void *ud, lsk_error *err);

/* ---- text ---- */

enum {
    LSK_ENCODE_BOS = 1,     /* put the beginning-of-text token first where the model asks for it (never twice) */
    LSK_ENCODE_SPECIAL = 2, /* "<|im_start|>" and the like in the text become their tokens */
    LSK_ENCODE_REPLACE = 4  /* bytes that are not UTF-8 become U+FFFD; without it they are an error */
};
/* Returns how many tokens the text has, which may be more than cap; writes at most cap of them. */
LSK_API int lsk_encode(const lsk_model *m, const char *text, size_t n, unsigned flags, int32_t *out, int cap, lsk_error *err);

/* The bytes of one token, perhaps a part of a character: borrowed, *n long. NULL: no such token. Control tokens give their name. */
LSK_API const char *lsk_piece(const lsk_model *m, int32_t token, size_t *n);

/* ---- conversations ---- */

typedef struct lsk_chat_options {
    const char *template_name; /* one of lsk_chat_template; NULL or "auto": the model's own */
    const char *template_text; /* a Jinja template, over the name; or NULL */
    const char *tools;         /* JSON: an array of what the model may call; or NULL */
    const char *variables;     /* JSON: an object of what else this template asks for, {"enable_thinking": false}; or NULL */
    int no_reply;              /* non-zero: the text ends with the last message, not with the beginning of the assistant's */
    int64_t now;               /* seconds since 1970 in the time zone in which a template shall write dates; 0: now, UTC */
    uint64_t reserved[8]; /* zero */
} lsk_chat_options;

/* A conversation as the model was taught to read it. The strings live as long as it does. */
typedef struct lsk_chat {
    const char *text;  /* with a zero behind */
    size_t n_text;
    const int32_t *tokens; /* [n_tokens] what messages say never becomes a control token, whatever it looks like */
    int n_tokens;
    int32_t end;       /* the control token that ends an assistant's message: to be among lsk_generate_options.eos; -1: none */
} lsk_chat;

/* messages: JSON, [{"role": "user", "content": "Hello"}, ...]. o may be NULL. NULL with *err set where there is no template, it is no template of the subset of Jinja
   that is known here, or it refuses these messages. Caller frees. */
LSK_API lsk_chat *lsk_chat_render(const lsk_model *m, const char *messages, const lsk_chat_options *o, lsk_error *err);
LSK_API void lsk_chat_free(lsk_chat *c); /* NULL is fine */

/* ---- generating ---- */

/* LSK_EUSAGE when the model already has as many open as lsk_model_options.sessions. Caller closes. */
LSK_API lsk_session *lsk_session_open(lsk_model *m, lsk_error *err);
LSK_API void lsk_session_close(lsk_session *s); /* NULL is fine */

typedef struct lsk_logit_bias {
    int32_t token;
    float bias; /* is added to its logit, -1e6 to 1e6; -INFINITY: the token never comes */
} lsk_logit_bias;

typedef struct lsk_logprob {
    int32_t token;
    float logprob; /* natural log, of the model's own distribution: before biases, penalties, grammar, temperature and cuts */
} lsk_logprob;

typedef struct lsk_generate_options {
    const char *drafter;  /* one of lsk_drafter, or several that draft together: "ngram+exit". NULL or "auto": "exit" where one of the three fields below asks for drafts or the model has a LayerSkip profile (with an
                             exit layer below `depth`), else "none" */
    int exit_layer;       /* layers that the draft runs, 1..L-1; 0: the profile's, else L/4 */
    int num_speculations; /* drafts in a round; 0: as long as a draft is worth its time as measured, at most the profile's, else 4 from the exit, and what the model
                             was opened for with other drafters; below 0: none, whatever the drafter. Where others draft beside the exit, this many are the exit's:
                             drafts that cost no pass come on top, as long as they are worth their time and the model was opened for so many */
    float draft_min_conf; /* drafting ends at a draft that its exit gives less than this probability; 0: never */
    int depth;            /* early-exit-only decoding: the first `depth` layers are the whole model; 0: all */
    float temperature;    /* 0: greedy */
    int top_k;            /* 0: off */
    float top_p, min_p;   /* 0: off */
    uint64_t seed;
    uint32_t choice;      /* number of this reply among several with one seed */
    int max_tokens;       /* 0: until the context is full */
    int ignore_eos;       /* non-zero: end-of-text tokens do not end the reply */
    const int32_t *eos;   /* further end-of-text ids */
    int n_eos;
    const char *const *stop; /* stop strings; never part of the text */
    int n_stop;
    int show_special;        /* non-zero: control tokens appear in the text by name */

    /* What the reply may say; none of it depends on drafting. In this order: biases, repetition, presence and frequency penalties, the grammar, then temperature, top-k, top-p, min-p. */
    const lsk_logit_bias *logit_bias; /* those of one token are added up */
    int n_logit_bias;
    float repeat_penalty;    /* logits of tokens that are in the window are divided by it (those below 0: multiplied), 0.01 to 100; 0 or 1: off */
    float presence_penalty;  /* taken from the logit of a token of the reply that is in the window ... */
    float frequency_penalty; /* ... and this as often as it is there; -100 to 100. Neither counts the prompt */
    int repeat_last_n;       /* the window: so many tokens before the one that is chosen, prompt included; 0: 64; below 0: all */
    int n_probs;             /* each event tells so many most probable tokens, at most 20 */
    const char *grammar;     /* the reply as GBNF, llama.cpp's notation; or NULL. Where it is complete the reply ends */
    const char *json_schema; /* the reply is JSON that is valid against this schema; "{}": any JSON; or NULL. Not both; neither with ignore_eos */
    uint64_t reserved[10]; /* zero */
} lsk_generate_options;

/* Would a session take these sampling options, penalties, biases and grammar? Needs no weights (LSK_LOAD_TOKENIZER will do), so that a mistake is told before they are read. */
LSK_API int lsk_options_check(const lsk_model *m, const lsk_generate_options *o, lsk_error *err);

enum lsk_finish { LSK_RUNNING = 0, LSK_FINISH_EOS, LSK_FINISH_STOP, LSK_FINISH_LENGTH, LSK_FINISH_CONTEXT, LSK_FINISH_CANCELLED, LSK_FINISH_ERROR };

/* One token that joined a timeline, or (token < 0) the end of a reply with the text that was held back. */
typedef struct lsk_event {
    int session;      /* index into the array that was stepped */
    int32_t token;    /* -1: only text or the end */
    int drafted;      /* 1: an accepted draft; 0: the model's own token */
    float logprob;    /* natural log, of the model's unfiltered distribution */
    const char *text; /* whole UTF-8 characters that may be shown now; borrowed until the next call */
    size_t n_text;
    enum lsk_finish finish; /* of the reply; the last event of a reply has it non-zero */
    const char *error;      /* with LSK_FINISH_ERROR: why, in one line; else NULL */
    int n_top;
    const lsk_logprob *top; /* [n_top] the most probable tokens here, by falling probability (see n_probs); borrowed while the event function runs */
} lsk_event;


typedef struct lsk_stats {
    int prompt_tokens, cached_tokens, reply_tokens;
    int prompt_done; /* prompt tokens behind all layers, cached ones included; never the last: it goes with the reply's first round, and reply_ns has its time */
    int64_t prompt_ns, reply_ns;
    int rounds, drafted, accepted;
    int drafted_at[LSK_MAX_DRAFTS], accepted_at[LSK_MAX_DRAFTS]; /* by place in the chain */
    uint64_t reply_bytes; /* weights read by the reply's passes */
    uint64_t waits;       /* times the host waited for the device meanwhile; 0 on a CPU */
    int depth, exit_layer, num_speculations; /* what the reply was made with; exit_layer 0: no drafts of it */
    float temperature;                       /* 0: greedy */
    uint64_t seed;
    uint64_t reserved[8]; /* zero */
} lsk_stats;

/* Sets what the session shall do: its timeline becomes the prompt (n >= 1 tokens; the longest prefix that it already holds is reused), o as above (may be NULL; copied). */
LSK_API int lsk_session_prompt(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, lsk_error *err);

/* One step for every session (of one model, none twice) that still runs: a chunk of its prompt, or one round. Calls emit for every event, in the order of the timelines; a non-zero return of emit
   cancels that session's reply, which then has no further event. Returns how many sessions still run. A failure of the engine is returned after every running session got LSK_FINISH_ERROR. */
typedef int (*lsk_emit_fn)(void *ud, const lsk_event *e);
LSK_API int lsk_step(lsk_session *const *sessions, int n, lsk_emit_fn emit, void *ud, lsk_error *err);

/* lsk_session_prompt, then lsk_step until the reply ends. emit may be NULL. stats may be NULL. */
LSK_API int lsk_generate(lsk_session *s, const int32_t *tokens, int n, const lsk_generate_options *o, lsk_emit_fn emit, void *ud, lsk_stats *stats, lsk_error *err);

LSK_API const lsk_stats *lsk_session_stats(lsk_session *s); /* of the present reply; borrowed, overwritten by the next call */

/* The logits of every position of tokens[0..n) after `depth` layers (0: all), row by row: each(ud, i, logits, n_vocab), not NULL; a non-zero return ends it. The session's timeline is forgotten. */
typedef int (*lsk_logits_fn)(void *ud, int i, const float *logits, int n_vocab);
LSK_API int lsk_score(lsk_session *s, const int32_t *tokens, int n, int depth, lsk_logits_fn each, void *ud, lsk_error *err);

/* The same, in the same bits, behind several depths (ascending, each 1..L) and from token `from` on: the text goes through the layers once, every depth adds a head. A position's depths come in order,
   positions of one depth too; how the two interleave is not said. */
typedef int (*lsk_exit_logits_fn)(void *ud, int i, int depth, const float *logits, int n_vocab);
LSK_API int lsk_score_exits(lsk_session *s, const int32_t *tokens, int n, int from, const int *depths, int n_depths, lsk_exit_logits_fn each, void *ud, lsk_error *err);

/* ---- what there is ---- */

LSK_API const char *lsk_drafter(int i, const char **help); /* name of drafter i; NULL past the last */
LSK_API const char *lsk_shape(int i, const char **help);   /* name of synthetic shape i; NULL past the last */
LSK_API const char *lsk_chat_template(int i, const char **help); /* name of built-in chat template i; NULL past the last */

/* ---- synthetic checkpoints ---- */

typedef struct lsk_synth_options {
    const char *shape;     /* required: a name of lsk_shape */
    uint64_t seed;         /* 0: 1 */
    int tie;               /* non-zero: head shares the embedding */
    int layers;            /* 0: the shape's; else that many */
    const char *dtype;     /* NULL: "bf16"; "f16", "f32" */
    uint64_t shard_bytes;  /* 0: 4 GiB */
    int threads;
    lsk_progress_fn progress;
    void *progress_ud;
    uint64_t reserved[8]; /* zero */
} lsk_synth_options;

/* Writes a Hugging Face folder with seeded random weights and a byte-level tokenizer. The folder appears only when complete; it must not exist. */
LSK_API int lsk_synth(const char *folder, const lsk_synth_options *o, lsk_error *err);

/* ---- conversion ---- */

/* What became of the tensors of one kind. */
typedef struct lsk_quantize_row {
    const char *kind;      /* "embed", "head", "q", ..., "norms", "biases", "rope"; "total" comes last */
    const char *from, *to; /* types, "mixed" where they are several */
    int tensors;
    uint64_t values, bytes_before, bytes_after;
    double rms_error; /* RMS of the error over RMS of the values; below 0: not measured */
    double max_error; /* of one value */
} lsk_quantize_row;

typedef struct lsk_quantize_options {
    const char *type;        /* required: "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k", the mixes "q4_k_s" and "q4_k_m" of these two, or "copy": as stored;
                                case does not count. Norms and biases are F32; rows that make no whole blocks of a type get another, and a note says so */
    const char *embed_type, *output_type; /* of embedding and head (one type where they are one); NULL: like the others, but q8_0 (with q4_k and the head of its mixes: q6_k) where those
                                have 4 bits, since they decide every token */
    int pure;                /* non-zero: like the others even then */
    int allow_requantize;    /* non-zero: also from one quantised type to another */
    int force;               /* non-zero: replace files that are there */
    int dry_run;             /* non-zero: report and write nothing; errors are not measured */
    lsk_profile profile;     /* how replies are drafted, written into the file; 0: as the model says itself */
    const char *draft_text;  /* a file to count tokens in, plain text, or NAME.jsonl as lsk_train_options.data (prompts are not counted): the most frequent are written into the
                                file, for lsk_model_options.draft_head. NULL: the model's own list, if it has one */
    int draft_tokens;        /* how many of them; 0: as many as make 99 % of the text, by 256 */
    uint64_t part_bytes;     /* 0: one file; else parts NAME-00001-of-0000N.gguf where one file would be larger */
    int threads;             /* 0: all cores */
    const char *const *ignore_config;
    lsk_progress_fn progress; /* or NULL */
    void *progress_ud;
    void (*row)(void *ud, const lsk_quantize_row *row); /* or NULL; called for every kind once the files are complete */
    void (*note)(void *ud, const char *line);           /* or NULL; what the user should know: tensors that got another type, texts that GGUF cuts otherwise */
    void *report_ud;
    uint64_t reserved[8]; /* zero */
} lsk_quantize_options;

/* Writes a model (as for lsk_model_open) as GGUF. Files appear only when all of them are complete. out may be NULL in a dry run. Returns how many files there are. */
LSK_API int lsk_quantize(const char *in, const char *out, const lsk_quantize_options *o, lsk_error *err);

/* ---- measuring ---- */

/* Bytes per second that `threads` pinned threads (0: all cores) read from memory, the best of a few passes over `bytes` of fresh random data. Below zero on failure. */
LSK_API double lsk_measure_read(uint64_t bytes, int threads, lsk_error *err);

/* ---- training ---- */

typedef struct lsk_train_options {
    const char *recipe;        /* required: a name of lsk_recipe */
    const char *start;         /* a model of the same shape whose weights to begin with; the first model is then only the anchor; NULL: its own */
    const char *folder;        /* required: tokens, log and checkpoints go there; made when it is not there */
    const char *const *data;   /* files, NULL-terminated: NAME.jsonl has a document in every line, any other is one of plain text; NULL: what the folder holds already */
    const double *weights;     /* how often a pass takes each file of data: 2 is twice, 0.5 a half now and the other in the next pass; NULL: once each */
    const char *device;        /* NULL or "auto" (a GPU if there is one), "cpu", "cuda", "cuda:N" */
    const char *document_end;  /* name of the token that ends every document; NULL: the model's end of text; "": none */
    int special;               /* non-zero: "<|im_start|>" and the like in the data become their tokens */
    int learn_prompts;         /* non-zero: the prompts of JSONL rows are learnt too */
    int bad_rows;              /* rows that cannot be used and are passed over, at most; each is an event */
    int steps;                 /* 0: as many as one pass over the data takes */
    int batch, accumulate;     /* sequences at once, and how often that before a step; 0: 8 and 1 */
    int length;                /* tokens of a sequence; 0: 1024, or the model's context if that is less */
    uint64_t seed;
    double rate;               /* peak of the learning rate; 0: the recipe's */
    double layer_dropout;      /* of the last layer; 0: the recipe's; below 0: none */
    double exit_scale;         /* 0: the recipe's; below 0: 0 */
    double anchor;             /* distill: weight of the last layer's staying what it was; 0: the recipe's; below 0: none */
    double warmup, floor;      /* share of the steps, share of the peak at the end; 0: .03 and .1; below 0: none */
    double beta1, beta2, eps;  /* of AdamW; 0: .9, .95, 1e-8 */
    double decay, clip;        /* 0: the recipe's and 1; below 0: none */
    double held_out;           /* share of the text that is never trained on; 0: .01 */
    const int *exits;          /* distill teaches these exit layers, looks measure them; none: L/4, L/3 and L/2 */
    int n_exits;               /* at most 16 */
    int look_every, look_blocks; /* steps between looks at held-out text, its sequences in one look; 0: 100 and 32; every below 0: at the end only */
    int save_every, keep;      /* steps between checkpoints, how many stay; 0: 500 and 2; below 0: at the end only, all */
    int resume;                /* non-zero: go on from the folder's newest checkpoint, with the same options */
    const char *fit;           /* "q8_0", "q4_0", "q4_1": train for weights that will be quantised to that; NULL: not */
    int recompute;             /* non-zero: less memory for activations, more time */
    int threads;
    const char *const *ignore_config; /* unknown config keys to pass over, NULL-terminated; or NULL */
    lsk_progress_fn progress;  /* before the first step; or NULL */
    void *progress_ud;
    uint64_t reserved[8]; /* zero */
} lsk_train_options;

enum lsk_train_kind { LSK_TRAIN_STARTED, LSK_TRAIN_STEPPED, LSK_TRAIN_LOOKED, LSK_TRAIN_SAVED, LSK_TRAIN_NOTE };

typedef struct lsk_train_point {
    int layer;                            /* the exit behind so many layers */
    double ce, kl, accept, anchor, agree; /* means in nats; agree: how often its likeliest token is the last layer's, greedy acceptance. STEPPED: only what the recipe asks for */
} lsk_train_point;

typedef struct lsk_train_event {
    enum lsk_train_kind kind;
    int step, steps;
    uint64_t tokens;            /* seen by the run */
    double loss, rate, norm;    /* of the step; norm: of its gradient, before clipping */
    double speed, flops, left;  /* tokens and operations per second; seconds to the end, 0: not known yet */
    int n;
    const lsk_train_point *point; /* [n] ascending layers, the last layer last */
    const char *text;           /* SAVED: the checkpoint's folder; STARTED: that of the one resumed from, or NULL; NOTE: the line */
    uint64_t memory;            /* STARTED: bytes on the device */
    uint64_t blocks, held;      /* STARTED: sequences to train on, and held out */
} lsk_train_event;

typedef int (*lsk_train_fn)(void *ud, const lsk_train_event *e); /* non-zero: the run saves a checkpoint and ends */

/* Trains the model at `path`, which stays as it is. Returns 0 when all steps are done, 1 when the event function ended the run. */
LSK_API int lsk_train(const char *path, const lsk_train_options *o, lsk_train_fn event, void *ud, lsk_error *err);
LSK_API const char *lsk_recipe(int i, const char **help); /* name of recipe i; NULL past the last */

#ifdef __cplusplus
}
#endif
#endif
