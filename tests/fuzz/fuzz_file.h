/* SPDX-License-Identifier: Apache-2.0 */
/* Input bytes as a file in memory, and what a program does with a checkpoint. */
#ifndef TESTS_FUZZ_FUZZ_FILE_H
#define TESTS_FUZZ_FUZZ_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format/checkpoint.h"
#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void fuzz_must(bool ok)
{
    if (!ok)
        abort();
}

/* The caller closes what is returned; path opens it while it lives. */
static inline int fuzz_file(const uint8_t *data, size_t size, char path[64])
{
    int fd = memfd_create("input", 0);
    fuzz_must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

/* What was accepted can be used: views lie in their file, rows can be read; what was refused says why in one line. */
static inline void fuzz_use(const struct checkpoint *c)
{
    struct config config;
    struct error err = {0};
    uint8_t *rows = malloc(1 << 16);
    fuzz_must(rows != NULL);
    for (int i = 0; i < c->n_views; i++) {
        const struct view *v = &c->view[i];
        uint64_t bytes = view_row_bytes(v), n = bytes ? 65536 / bytes : 0;
        fuzz_must(v->offset <= c->shard[v->shard].size && v->bytes <= c->shard[v->shard].size - v->offset && v->bytes == bytes * v->dim[0]);
        fuzz_must(!i || strcmp(c->view[i - 1].name, v->name) < 0);
        n = n < v->dim[0] ? n : v->dim[0];
        fuzz_must(!checkpoint_read_rows(c, v, v->dim[0] - n, n, rows, &err));
    }
    for (int i = 0; i < c->tokens.n; i++)
        fuzz_must(c->tokens.text[i].p[c->tokens.text[i].n] == 0);
    free(rows);
    int rc = config_read(&config, c, NULL, &err);
    if (!rc)
        rc = config_check_tensors(&config, c, &err);
    fuzz_must((rc == 0) == (*err.text == 0) && !strchr(err.text, '\n'));
}

static inline void fuzz_open(const char *path)
{
    struct error err = {0};
    struct checkpoint *c = checkpoint_open(path, &err);
    fuzz_must(c ? !err.code : err.code < 0 && *err.text && !strchr(err.text, '\n'));
    if (c)
        fuzz_use(c);
    checkpoint_close(c);
}

#endif
