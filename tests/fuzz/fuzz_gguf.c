/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a GGUF file: opened, its config read, its tensors checked and read. */
#include "fuzz/fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = fuzz_file(data, size, path);
    fuzz_open(path);
    close(fd);
    return 0;
}
