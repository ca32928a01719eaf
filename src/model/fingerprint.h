/* SPDX-License-Identifier: Apache-2.0 */
/* Which model is it, wherever its files lie? */
#ifndef MODEL_FINGERPRINT_H
#define MODEL_FINGERPRINT_H

#include "model/model.h"

/* Hashes names, types and shapes of all tensors, the configuration, and a row of weights from the last layer (so that two trainings of one architecture differ).
   out: 16 hexadecimal digits. Reads a few KiB at most. */
int model_fingerprint(const struct model *m, char out[17], struct error *err);

#endif
