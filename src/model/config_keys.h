/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a config that need no reading: those that change nothing here, and those of features that this engine does not have. */
#ifndef MODEL_CONFIG_KEYS_H
#define MODEL_CONFIG_KEYS_H

#include "base/error.h"
#include "format/checkpoint.h"

/* 0 when the key may be passed over: of no effect here, at its neutral value, or in the list `ignore`; *changing is the key when it is one of those and would change what the
   model computes. */
int config_pass_key(const struct checkpoint *c, const struct meta *m, const char *const *ignore, const char **changing, struct error *err);

/* Is the key, by either of its names, `name` or below it? */
bool config_key_is(const struct meta *m, const char *name);

/* A value as a message shows it. */
struct shown {
    char text[80];
};
struct shown meta_show(const struct meta *m);

#endif
