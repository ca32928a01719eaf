/* SPDX-License-Identifier: Apache-2.0 */
/* Text as tokens on disk, and what a step takes from it. One file, written whole or not at all, read through bounded reads:
     64 bytes of header, then a 32-bit word for every token: its id, and two flags; then struct dataset_source for every file that the text came from.
   Documents follow one another without gaps. The file is cut into blocks of `length` tokens; some blocks, evenly spread, are held out and never trained on.
   Position p of the run is a function of (seed, p) alone. A pass takes each source's blocks `weight` times: 2 is twice, 0.5 is one half now, the other in the next pass.
   Blocks come in another order in every pass, by permutations that are computed, not stored. So a run goes on anywhere, from a number. */
#ifndef TRAIN_DATASET_H
#define TRAIN_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/train.h"
#include "base/file.h"

#define DATASET_BEGINS (1u << 31) /* this token is the first of a document */
#define DATASET_GIVEN (1u << 30)  /* a part of a prompt: read, not learnt */
enum { DATASET_ID_MASK = (1 << 30) - 1, DATASET_HEADER = 64, DATASET_VERSION = 2, DATASET_SOURCES_MAX = 256 };

struct dataset_source {
    uint64_t tokens;
    double weight; /* above 0, at most 1000 */
};

struct dataset_header {
    uint32_t vocab;
    uint64_t tokenizer, source, content; /* fingerprints: of the tokenizer, of the files and options it was made from, of the words */
    uint64_t tokens, documents, sources;
};

/* Header and its bytes. ERR_DATA names what is wrong; path and size are the file's. */
void dataset_header_write(const struct dataset_header *h, uint8_t out[DATASET_HEADER]);
int dataset_header_read(struct dataset_header *h, const uint8_t in[DATASET_HEADER], const char *path, uint64_t size, struct error *err);

/* The blocks that begin in one source. */
struct dataset_part {
    uint64_t first, blocks, taken; /* first: how many trained blocks lie before; taken: in a pass */
};

struct dataset {
    struct file file;
    struct dataset_header header;
    int length;          /* tokens of a block */
    bool learn_given;    /* prompts count too */
    uint64_t blocks, held, spread; /* every spread-th block is held out, `held` of them */
    uint64_t pass;             /* blocks that a pass takes */
    struct dataset_part *part; /* [header.sources] */
    uint32_t *word;            /* [length + 1] */
};

/* held_share: the part of the blocks that is held out (at least one block). Caller closes; on failure nothing is held. */
int dataset_open(struct dataset *d, const char *path, int length, double held_share, struct error *err);
void dataset_close(struct dataset *d); /* zeroes are fine */

/* The number of the block at a position of the run, and of held-out block i. */
uint64_t dataset_block(const struct dataset *d, uint64_t seed, uint64_t position);
uint64_t dataset_held_block(const struct dataset *d, uint64_t i);

/* A batch that owns its arrays; keep stays NULL. */
struct batch {
    struct train_batch view; /* of the arrays below */
    int32_t *token, *target, *start; /* [n][length] */
};
int batch_open(struct batch *b, int n, int length, struct error *err);
void batch_close(struct batch *b);

/* Block `number` as sample i of the batch. */
int dataset_read(struct dataset *d, uint64_t number, struct batch *b, int i, struct error *err);

#endif
