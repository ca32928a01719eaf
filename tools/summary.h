/* SPDX-License-Identifier: Apache-2.0 */
/* What a reply cost and what drafting brought, for people and for programs. */
#ifndef TOOLS_SUMMARY_H
#define TOOLS_SUMMARY_H

#include <stdint.h>
#include <stdio.h>

#include "layerskip.h"

/* The figures that follow from lsk_stats; 0 where there is nothing to divide by. */
struct figures {
    int evaluated;      /* prompt tokens that prompt_ns is the time of: neither those in the cache nor the last, whose pass is the reply's first */
    double prompt_rate; /* of these, per second */
    double reply_rate;  /* tokens per second */
    double token_ms;
    double gb_per_s;   /* weights read while replying */
    double acceptance; /* accepted / drafted */
    double length;     /* 1 + accepted per round */
    double reads;      /* weights read per token over those of one full pass: below 1, drafting saves memory traffic */
};
struct figures figures_of(const lsk_stats *s, const lsk_model_info *m);

/* What the library's figures do not say. */
struct reply_facts {
    enum lsk_finish finish;
    uint64_t rss;        /* peak, bytes */
    const char *profile; /* where the profile is from that decided on drafts, or NULL */
    int top_k;           /* as asked for; 0, 1 and 0 are off */
    double top_p, min_p;
};

const char *finish_name(enum lsk_finish f);
const char *bytes_text(uint64_t n, char *out, size_t cap); /* "1.36 GiB" */
const char *scratch_text(const lsk_memory *m, char *out, size_t cap); /* "scratch 5.93 MiB", and what of it drafts cost */
const char *plural(int n);                                 /* "" for 1, else "s" */
const char *count_text(uint64_t n, char *out, size_t cap); /* "134.5 M" */
uint64_t peak_rss(void);                                   /* bytes, 0 where /proc does not say */

void summary_text(FILE *out, const lsk_stats *s, const lsk_model_info *m, const struct reply_facts *facts);
void summary_json(FILE *out, const lsk_stats *s, const lsk_model_info *m, const struct reply_facts *facts);

#endif
