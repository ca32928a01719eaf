/* SPDX-License-Identifier: Apache-2.0 */
/* A folder's config.json and, behind a zero byte, its generation_config.json. */
#include "fuzz/fuzz_file.h"

#include "format/fill.h"
#include "format/hf.h"

static char folder[64];

static void remove_folder(void)
{
    static const char *const names[] = {"/config.json", "/generation_config.json", ""};
    char path[128];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", folder, names[i]);
        remove(path);
    }
}

static void write_file(const char *name, const uint8_t *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    fuzz_must(f && fwrite(data, 1, size, f) == size);
    fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!*folder) {
        strcpy(folder, "/dev/shm/layerskip-fuzz-XXXXXX");
        fuzz_must(mkdtemp(folder) != NULL);
        atexit(remove_folder);
    }
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size;
    write_file("config.json", data, n);
    write_file("generation_config.json", zero ? zero + 1 : (const uint8_t *)"{}", zero ? size - n - 1 : 2);
    struct error err = {0};
    struct checkpoint c = {.path = folder, .dir = folder};
    int rc = hf_read_configs(&c, &err);
    if (!rc)
        rc = fill_seal(&c, &err);
    fuzz_must((rc == 0) == (*err.text == 0) && !strchr(err.text, '\n'));
    if (!rc)
        fuzz_use(&c);
    arena_free(&c.arena);
    return 0;
}
