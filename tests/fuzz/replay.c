/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libFuzzer: runs a target on every file of the given folders, so that the seeds are tests in every build. */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END))
        return -1;
    long size = ftell(f);
    uint8_t *data = size < 0 ? NULL : malloc(size ? (size_t)size : 1); /* exact, so that a read behind it is seen */
    rewind(f);
    if (!data || fread(data, 1, (size_t)size, f) != (size_t)size)
        return -1;
    fclose(f);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int n = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        for (struct dirent *e; d && (e = readdir(d));) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            if (e->d_type != DT_REG)
                continue;
            if (replay_file(path)) {
                fprintf(stderr, "%s: cannot read\n", path);
                return 1;
            }
            n++;
        }
        if (d)
            closedir(d);
    }
    printf("%d inputs\n", n);
    return n == 0;
}
