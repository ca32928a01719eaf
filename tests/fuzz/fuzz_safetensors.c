/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a safetensors file beside a sound config.json. */
#include "fuzz/fuzz_file.h"

#include "format/fill.h"
#include "format/hf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = fuzz_file(data, size, path);
    struct error err = {0};
    struct checkpoint c = {.path = path, .dir = (char *)"/"};
    int rc = fill_shards(&c, 1, &err);
    if (!rc)
        rc = safetensors_add(&c, path, &err);
    if (!rc)
        rc = fill_seal(&c, &err);
    fuzz_must((rc == 0) == (*err.text == 0) && !strchr(err.text, '\n'));
    if (!rc)
        fuzz_use(&c);
    for (int i = 0; i < c.n_shards; i++)
        file_close(&c.shard[i]);
    arena_free(&c.arena);
    close(fd);
    return 0;
}
