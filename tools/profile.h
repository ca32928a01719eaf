/* SPDX-License-Identifier: Apache-2.0 */
/* How a model drafts best on this machine, as `sweep` or `bench --save-profile` measured it. One small file for each model, named after its content, in
   $XDG_CONFIG_HOME/layerskip/profiles (in ~/.config without that variable):
     {"exit_layer": 8, "num_speculations": 6, "measured": {"date": "2026-11-23T13:15:38Z", ...}}          exit layer 0: plain decoding was faster
   With "drafter": "ngram+exit" (which `sweep` may find best) that team drafts instead of the exit; exit layer 0 is then a team without one, 0 drafts as many as are worth their time. */
#ifndef TOOLS_PROFILE_H
#define TOOLS_PROFILE_H

#include "layerskip.h"
#include "record.h"

struct profile {
    lsk_profile draft;
    char drafter[64]; /* "": the exit */
    char source[32]; /* "measured 2026-11-23", "from the checkpoint"; "": there is none */
};

/* Where the model's measured profile is, or would be. 0, or LSK_ECONFIG where there is no place for it. */
int profile_path(const lsk_model_info *m, char *out, size_t cap, lsk_error *err);

/* The measured one, else the checkpoint's. A file that is no profile is a warning on stderr, and plain decoding. */
struct profile profile_find(const lsk_model_info *m);

/* Could one be saved? Makes its folder. */
int profile_check(const lsk_model_info *m, lsk_error *err);

/* Drafting options as a profile with a drafter of its own wants them, where none of them was given. */
void profile_apply(const struct profile *p, lsk_generate_options *o);

/* measured: what was measured, with a "date" that begins as 2026-11-23. The file is there when it is complete. */
int profile_save(const lsk_model_info *m, const struct profile *p, const struct record *measured, lsk_error *err);

/* Saves what was measured best, or that decoding stays plain where that gains less than 3 % (by which measurements differ anyway), and says so on stderr. */
int profile_keep(const lsk_model_info *m, const struct profile *best, double speedup, const struct record *measured, lsk_error *err);

#endif
