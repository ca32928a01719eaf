/* SPDX-License-Identifier: Apache-2.0 */
/* What the formats share while they fill a checkpoint: growing lists in its arena, name tables, the rule for byte ranges. */
#ifndef FORMAT_FILL_H
#define FORMAT_FILL_H

#include "format/checkpoint.h"

enum {
    TENSORS_MAX = 1 << 16, /* in one checkpoint: four times what 1024 layers with every bias have */
    KEYS_MAX = 1 << 16,
    SHARDS_MAX = 4096,
    RANK_MAX = 8
};

extern const struct format format_gguf, format_safetensors, format_folder;

int fill_memory(struct error *err); /* "out of memory": returns ERR_OS */

/* A list that grows to the next power of two, so that its capacity follows from its length: room for one more, or NULL. */
void *fill_grow(struct arena *a, void *list, int n, size_t size);

/* Room for n files; fill_open opens the next of them. */
int fill_shards(struct checkpoint *c, int n, struct error *err);
int fill_open(struct checkpoint *c, const char *path, struct error *err);

int fill_view(struct checkpoint *c, const struct view *v, struct error *err); /* the strings it points to live in c->arena */
int fill_meta(struct checkpoint *c, const struct meta *m, struct error *err); /* the same; file_key NULL: equal to key */

/* How a format spells the names: the stem is what stands before ".weight" or ".bias". */
struct stem {
    const char *file, *canonical;
};
struct naming {
    const char *layers; /* what stands before the layer's number, "blk." */
    const struct stem *global, *layer; /* ended by {NULL, NULL} */
};
const char *fill_name(struct checkpoint *c, const struct naming *names, const char *file_name); /* canonical, or "?NAME"; NULL: out of memory */

/* Byte ranges of tensors in one file. They must lie in [from, to] and not overlap; gapless: they fill it. Sorts the list. */
struct span {
    uint64_t begin, end;
    const char *name;
};
int fill_check_spans(struct span *s, int n, uint64_t from, uint64_t to, bool gapless, const char *path, struct error *err);

/* Sorts views and metadata by name; refuses two of one name. */
int fill_seal(struct checkpoint *c, struct error *err);

#endif
