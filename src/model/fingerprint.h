/* SPDX-License-Identifier: Apache-2.0 */
/* Which model is it, wherever its files lie? */
#ifndef MODEL_FINGERPRINT_H
#define MODEL_FINGERPRINT_H

#include "model/model.h"

/* Hashes names, types and shapes of all tensors, the configuration, and of every tensor the first, the middle and the last 64 bytes in the file (so that two trainings of one architecture
   differ, and a model of which some tensors were trained on; a change that touches none of these bytes is not seen). out: 16 hexadecimal digits. Three small reads a tensor, whatever its size. */
int model_fingerprint(const struct model *m, char out[17], struct error *err);

#endif
