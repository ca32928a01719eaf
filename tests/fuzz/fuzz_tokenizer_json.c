/* SPDX-License-Identifier: Apache-2.0 */
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "<s>ab abc <0x41> 12 \xc3\xa9\xe4\xb8\xad'll\n";
    struct vocab v;
    struct error err;
    if (vocab_from_tokenizer_json(&v, "fuzz", (struct bytes){data, size}, NULL, &err) < 0)
        return 0;
    struct tokenizer *t = tokenizer_open(&v, &err);
    int32_t ids[8];
    tokenizer_encode(t, text, sizeof text, ENCODE_BOS | ENCODE_SPECIAL, ids, 8, &err);
    tokenizer_close(t);
    vocab_close(&v);
    return 0;
}
