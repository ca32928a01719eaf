/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/decode.h"

const struct drafter drafter_none = {.name = "none", .help = "plain autoregressive decoding: one pass over all layers for every token"};
