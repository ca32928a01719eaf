/* SPDX-License-Identifier: Apache-2.0 */
#include "train/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/philox.h"

enum { STREAM_SHUFFLE = 2, ROUNDS = 4, LENGTH_MAX = 1 << 20 };

static const char magic[8] = "LSKTOKEN";

/* ---- header ---- */

static void put(uint8_t *out, uint64_t v, int n)
{
    for (int i = 0; i < n; i++)
        out[i] = (uint8_t)(v >> (8 * i));
}

void dataset_header_write(const struct dataset_header *h, uint8_t out[DATASET_HEADER])
{
    const uint64_t wide[] = {h->tokenizer, h->source, h->content, h->tokens, h->documents, h->sources};
    memcpy(out, magic, sizeof magic);
    put(out + 8, DATASET_VERSION, 4);
    put(out + 12, h->vocab, 4);
    for (int i = 0; i < 6; i++)
        put(out + 16 + 8 * i, wide[i], 8);
}

int dataset_header_read(struct dataset_header *h, const uint8_t in[DATASET_HEADER], const char *path, uint64_t size, struct error *err)
{
    struct reader r = {in + sizeof magic, DATASET_HEADER - sizeof magic, 0};
    uint32_t version = 0;
    uint64_t bytes, table;
    if (memcmp(in, magic, sizeof magic))
        return fail(err, ERR_DATA, "%s: offset 0x0: not a file of tokens: remove it, and it is made again", path);
    read_u32(&r, &version);
    if (version != DATASET_VERSION)
        return fail(err, ERR_DATA, "%s: offset 0x8: version %u: this program reads %d: remove the file, and it is made again", path, version, DATASET_VERSION);
    read_u32(&r, &h->vocab);
    uint64_t *const wide[] = {&h->tokenizer, &h->source, &h->content, &h->tokens, &h->documents, &h->sources};
    for (int i = 0; i < 6; i++)
        read_u64(&r, wide[i]);
    if (h->sources < 1 || h->sources > DATASET_SOURCES_MAX)
        return fail(err, ERR_DATA, "%s: offset 0x38: %llu sources: must be 1 to %d: remove the file, and it is made again", path, (unsigned long long)h->sources, DATASET_SOURCES_MAX);
    table = DATASET_HEADER + h->sources * sizeof(struct dataset_source);
    if (mul_u64(h->tokens, 4, &bytes) || add_u64(bytes, table, &bytes) || bytes != size)
        return fail(err, ERR_DATA, "%s: offset 0x28: %llu tokens in a file of %llu bytes: cut off or damaged: remove it, and it is made again", path, (unsigned long long)h->tokens,
                    (unsigned long long)size);
    return 0;
}

/* ---- blocks ---- */

static int divide(struct dataset *d, double held_share, struct error *err)
{
    uint64_t tokens = d->header.tokens;
    if (d->length < 2 || d->length > LENGTH_MAX)
        return fail(err, ERR_USAGE, "sequence length %d: must be 2 to %d", d->length, LENGTH_MAX);
    if (!(held_share >= 0 && held_share <= 0.5))
        return fail(err, ERR_USAGE, "held-out share %g: must be 0 to 0.5", held_share);
    d->blocks = tokens ? (tokens - 1) / (uint64_t)d->length : 0;
    if (d->blocks < 2)
        return fail(err, ERR_DATA, "%s: %llu tokens: too few for one block to train on and one to hold out, of %d tokens each: give more text or a shorter sequence", d->file.path,
                    (unsigned long long)tokens, d->length);
    d->held = (uint64_t)((double)d->blocks * held_share);
    d->held = d->held ? d->held : 1;
    d->spread = d->blocks / d->held;
    return 0;
}

/* Blocks of the first `tokens` tokens that are trained on; a block belongs to where it begins. */
static uint64_t trained_before(const struct dataset *d, uint64_t tokens)
{
    uint64_t n = tokens / (uint64_t)d->length + (tokens % (uint64_t)d->length != 0), held;
    n = n < d->blocks ? n : d->blocks;
    held = n / d->spread;
    return n - (held < d->held ? held : d->held);
}

static int read_sources(struct dataset *d, struct error *err)
{
    struct dataset_source source[DATASET_SOURCES_MAX];
    const uint64_t n = d->header.sources, at = DATASET_HEADER + d->header.tokens * 4;
    uint64_t before = 0;
    int rc = file_read_at(&d->file, at, source, n * sizeof *source, err);
    for (uint64_t i = 0; i < n && !rc; i++) {
        struct dataset_part *p = &d->part[i];
        if (!(source[i].weight > 0 && source[i].weight <= 1000) || source[i].tokens > d->header.tokens - before)
            return fail(err, ERR_DATA, "%s: offset 0x%llx: source %llu: %llu tokens, weight %g: damaged: remove the file, and it is made again", d->file.path,
                        (unsigned long long)(at + i * sizeof *source), (unsigned long long)i, (unsigned long long)source[i].tokens, source[i].weight);
        p->first = trained_before(d, before);
        before += source[i].tokens;
        p->blocks = trained_before(d, before) - p->first;
        p->taken = p->blocks ? (uint64_t)((double)p->blocks * source[i].weight + 0.5) : 0;
        p->taken += p->blocks && !p->taken;
        d->pass += p->taken;
    }
    if (!rc && (before != d->header.tokens || !d->pass))
        rc = fail(err, ERR_DATA, "%s: offset 0x%llx: sources of %llu tokens, not %llu: damaged: remove the file, and it is made again", d->file.path, (unsigned long long)at,
                  (unsigned long long)before, (unsigned long long)d->header.tokens);
    return rc;
}

int dataset_open(struct dataset *d, const char *path, int length, double held_share, struct error *err)
{
    uint8_t head[DATASET_HEADER];
    *d = (struct dataset){.length = length};
    int rc = file_open(&d->file, path, err);
    if (!rc && d->file.size < DATASET_HEADER)
        rc = fail(err, ERR_DATA, "%s: %llu bytes: cut off: remove it, and it is made again", path, (unsigned long long)d->file.size);
    if (!rc)
        rc = file_read_at(&d->file, 0, head, sizeof head, err);
    if (!rc)
        rc = dataset_header_read(&d->header, head, path, d->file.size, err);
    if (!rc)
        rc = divide(d, held_share, err);
    if (!rc && (!(d->word = malloc(((size_t)length + 1) * sizeof *d->word)) || !(d->part = calloc((size_t)d->header.sources, sizeof *d->part))))
        rc = fail(err, ERR_OS, "out of memory for a block of %d tokens", length);
    if (!rc)
        rc = read_sources(d, err);
    if (rc)
        dataset_close(d);
    return rc;
}

void dataset_close(struct dataset *d)
{
    file_close(&d->file);
    free(d->word);
    free(d->part);
    *d = (struct dataset){.file.fd = -1};
}

/* ---- order ---- */

/* A permutation of 0 .. n-1: a Feistel network on the next even number of bits, walked until it comes back below n (four steps at most on average). */
static uint64_t permute(uint64_t i, uint64_t n, uint64_t seed, uint64_t epoch)
{
    int half = 1;
    while (half < 32 && (uint64_t)1 << (2 * half) < n)
        half++;
    const uint32_t mask = (uint32_t)(((uint64_t)1 << half) - 1);
    do {
        uint32_t left = (uint32_t)(i >> half) & mask, right = (uint32_t)i & mask;
        for (uint32_t round = 0; round < ROUNDS; round++) {
            uint32_t next = left ^ (philox(seed, right, round, (uint32_t)epoch, STREAM_SHUFFLE).v[0] & mask);
            left = right;
            right = next;
        }
        i = (uint64_t)left << half | right;
    } while (i >= n);
    return i;
}

uint64_t dataset_block(const struct dataset *d, uint64_t seed, uint64_t position)
{
    const struct dataset_part *p = d->part;
    const uint64_t pass = position / d->pass;
    uint64_t i = permute(position % d->pass, d->pass, seed, pass), skipped;
    for (; i >= p->taken; p++)
        i -= p->taken;
    i += pass * p->taken; /* of this source, over the whole run: goes round its blocks again and again */
    i = p->first + permute(i % p->blocks, p->blocks, ~seed ^ (uint64_t)(p - d->part) << 48, i / p->blocks);
    skipped = i / (d->spread - 1);
    return i + (skipped < d->held ? skipped : d->held);
}

uint64_t dataset_held_block(const struct dataset *d, uint64_t i) { return (i + 1) * d->spread - 1; }

/* ---- batches ---- */

int batch_open(struct batch *b, int n, int length, struct error *err)
{
    size_t count = (size_t)n * (size_t)length;
    *b = (struct batch){.token = calloc(count, 4), .target = calloc(count, 4), .start = calloc(count, 4)};
    if (!b->token || !b->target || !b->start) {
        batch_close(b);
        return fail(err, ERR_OS, "out of memory for %d sequences of %d tokens", n, length);
    }
    b->view = (struct train_batch){.n = n, .length = length, .token = b->token, .target = b->target, .start = b->start};
    return 0;
}

void batch_close(struct batch *b)
{
    free(b->token);
    free(b->target);
    free(b->start);
    *b = (struct batch){0};
}

/* The last position of a document has nothing to foretell: what follows is another text. */
static int32_t target_of(const struct dataset *d, uint32_t next)
{
    return next & DATASET_BEGINS || (next & DATASET_GIVEN && !d->learn_given) ? -1 : (int32_t)(next & DATASET_ID_MASK);
}

int dataset_read(struct dataset *d, uint64_t number, struct batch *b, int i, struct error *err)
{
    const uint64_t offset = DATASET_HEADER + number * (uint64_t)d->length * 4;
    const size_t at = (size_t)i * (size_t)d->length;
    int32_t begin = 0;
    int rc = file_read_at(&d->file, offset, d->word, ((size_t)d->length + 1) * 4, err);
    for (int k = 0; k <= d->length && !rc; k++)
        if ((d->word[k] & DATASET_ID_MASK) >= d->header.vocab)
            rc = fail(err, ERR_DATA, "%s: offset 0x%llx: token %u: beyond the vocabulary of %u: remove the file, and it is made again", d->file.path,
                      (unsigned long long)offset + 4 * (unsigned long long)k, d->word[k] & DATASET_ID_MASK, d->header.vocab);
    for (int k = 0; k < d->length && !rc; k++) {
        begin = d->word[k] & DATASET_BEGINS ? k : begin;
        b->token[at + (size_t)k] = (int32_t)(d->word[k] & DATASET_ID_MASK);
        b->target[at + (size_t)k] = target_of(d, d->word[k + 1]);
        b->start[at + (size_t)k] = begin;
    }
    return rc;
}
