/* SPDX-License-Identifier: Apache-2.0 */
/* How a model drafts best on this machine, as `bench --save-profile` measured it. One small file for each model, named after its content, in
   $XDG_CONFIG_HOME/layerskip/profiles (in ~/.config without that variable):
     {"exit_layer": 8, "num_speculations": 6, "measured": {"date": "2026-11-23T13:15:38Z", ...}}          exit layer 0: plain decoding was faster */
#ifndef TOOLS_PROFILE_H
#define TOOLS_PROFILE_H

#include "layerskip.h"
#include "record.h"

struct profile {
    lsk_profile draft;
    char source[32]; /* "measured 2026-11-23", "from the checkpoint"; "": there is none */
};

/* Where the model's measured profile is, or would be. 0, or LSK_ECONFIG where there is no place for it. */
int profile_path(const lsk_model_info *m, char *out, size_t cap, lsk_error *err);

/* The measured one, else the checkpoint's. A file that is no profile is a warning on stderr, and plain decoding. */
struct profile profile_find(const lsk_model_info *m);

/* Could one be saved? Makes its folder. */
int profile_check(const lsk_model_info *m, lsk_error *err);

/* measured: what was measured, with a "date" that begins as 2026-11-23. The file is there when it is complete. */
int profile_save(const lsk_model_info *m, lsk_profile draft, const struct record *measured, lsk_error *err);

#endif
