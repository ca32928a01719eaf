/* SPDX-License-Identifier: Apache-2.0 */
/* Training that begins with other weights than those of the model that anchors it: a second run that goes on from what a first one ended with, say. */
#ifndef TRAIN_START_H
#define TRAIN_START_H

#include "backend/train.h"

/* The trainer's weights := those of `from`, which must have the same tensors in the same shapes; the anchor stays. ERR_USAGE names the tensor that does not fit. */
int train_start(const struct train_ops *ops, struct trainer *t, const struct model *from, struct error *err);

#endif
