/* SPDX-License-Identifier: Apache-2.0 */
#include "summary.h"

#include <math.h>
#include <string.h>

#include "record.h"

static double over(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static int is_cut(const lsk_stats *s, const lsk_model_info *m)
{
    return s->depth > 0 && s->depth < m->n_layers;
}

/* Weights that one plain token of the same depth reads. */
static uint64_t plain_bytes(const lsk_stats *s, const lsk_model_info *m)
{
    return is_cut(s, m) ? m->layer_bytes * (uint64_t)s->depth + m->head_bytes : m->pass_bytes;
}

struct figures figures_of(const lsk_stats *s, const lsk_model_info *m)
{
    double reply_s = (double)s->reply_ns / 1e9;
    int evaluated = s->prompt_done - s->cached_tokens;
    return (struct figures){
        .evaluated = evaluated,
        .prompt_rate = over(evaluated, (double)s->prompt_ns / 1e9),
        .reply_rate = over(s->reply_tokens, reply_s),
        .token_ms = over(reply_s * 1e3, s->reply_tokens),
        .gb_per_s = over((double)s->reply_bytes / 1e9, reply_s),
        .acceptance = over(s->accepted, s->drafted),
        .length = s->rounds ? 1 + over(s->accepted, s->rounds) : 0,
        .reads = over((double)s->reply_bytes, (double)plain_bytes(s, m) * s->reply_tokens),
    };
}

const char *finish_name(enum lsk_finish f)
{
    static const char *const names[] = {"running", "end of text", "stop string", "token limit", "context full", "cancelled", "error"};
    return (unsigned)f < sizeof names / sizeof *names ? names[f] : "unknown";
}

const char *bytes_text(uint64_t n, char *out, size_t cap)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)n;
    int unit = 0;
    for (; v >= 1024 && unit < 4; unit++)
        v /= 1024;
    snprintf(out, cap, unit ? "%.2f %s" : "%.0f %s", v, units[unit]);
    return out;
}

const char *count_text(uint64_t n, char *out, size_t cap)
{
    snprintf(out, cap, n < 1000000000 ? "%.1f M" : "%.2f B", (double)n / (n < 1000000000 ? 1e6 : 1e9));
    return out;
}

uint64_t peak_rss(void)
{
    unsigned long long kib = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

const char *plural(int n)
{
    return n == 1 ? "" : "s";
}

const char *scratch_text(const lsk_memory *m, char *out, size_t cap)
{
    char all[32], drafts[32];
    size_t n = (size_t)snprintf(out, cap, "scratch %s", bytes_text(m->scratch, all, sizeof all));
    if (m->drafts && n < cap)
        snprintf(out + n, cap - n, " (%s of it there only for self-speculation)", bytes_text(m->drafts, drafts, sizeof drafts));
    return out;
}

enum { SHOWN_POSITIONS = 8 };

static void print_drafts(FILE *out, const lsk_stats *s, const lsk_model_info *m, const struct figures *f)
{
    int last = SHOWN_POSITIONS;
    while (last && !s->drafted_at[last - 1])
        last--;
    fprintf(out, "drafts     ");
    if (!s->drafted) {
        fprintf(out, "none was worth its time in %d round%s\n", s->rounds, plural(s->rounds));
        return;
    }
    if (s->exit_layer)
        fprintf(out, "exit layer %d, ", s->exit_layer);
    if (s->exit_layer && m->draft_head)
        fprintf(out, "among %d tokens, ", m->draft_head);
    if (s->drafted == s->rounds * s->num_speculations)
        fprintf(out, "%d a round", s->num_speculations);
    else
        fprintf(out, "%.1f a round, %d at most", over(s->drafted, s->rounds), s->num_speculations);
    fprintf(out, ": acceptance rate %.3f (%d accepted / %d drafted), mean accepted length %.2f, by position (", f->acceptance, s->accepted, s->drafted, f->length);
    for (int i = 0; i < last; i++)
        fprintf(out, "%s%.3f", i ? ", " : "", over(s->accepted_at[i], s->drafted_at[i]));
    fprintf(out, "%s)\n           reads %.2f times the weights that plain decoding reads: ", last < LSK_MAX_DRAFTS && s->drafted_at[last] ? ", ..." : "", f->reads);
    if (f->reads < 1)
        fprintf(out, "drafting can be up to %.2f times as fast\n", 1 / f->reads);
    else
        fprintf(out, "drafting does not pay here, another --exit-layer or fewer drafts may\n");
}

/* Rates only of what was timed. */
static void print_work(FILE *out, const lsk_stats *s, const struct figures *f, const struct reply_facts *facts)
{
    fprintf(out, "prompt     %d token%s: %d cached, %d evaluated%s", s->prompt_tokens, plural(s->prompt_tokens), s->cached_tokens, f->evaluated,
            s->reply_ns ? ", the last with the reply" : s->prompt_done + 1 == s->prompt_tokens ? ", the last not needed without a reply" : "");
    if (f->prompt_rate > 0)
        fprintf(out, "  %.1f ms  %.1f tokens/s", (double)s->prompt_ns / 1e6, f->prompt_rate);
    fprintf(out, "\nreply      %d token%s (%s)", s->reply_tokens, plural(s->reply_tokens), finish_name(facts->finish));
    if (f->reply_rate > 0)
        fprintf(out, "  %.1f ms  %.2f ms/token  %.2f tokens/s  %.2f GB/s", (double)s->reply_ns / 1e6, f->token_ms, f->reply_rate, f->gb_per_s);
    fputc('\n', out);
    if (s->waits)
        fprintf(out, "waits      the host waited %llu time%s for the device: %.2f a round, %.2f a token\n", (unsigned long long)s->waits, s->waits == 1 ? "" : "s",
                over((double)s->waits, s->rounds), over((double)s->waits, s->reply_tokens));
}

static void print_sampling(FILE *out, const lsk_stats *s, const struct reply_facts *facts)
{
    if (s->temperature <= 0) {
        fprintf(out, "sampling   greedy\n");
        return;
    }
    fprintf(out, "sampling   temperature %g", (double)s->temperature);
    if (facts->top_k)
        fprintf(out, ", top-k %d", facts->top_k);
    if (facts->top_p < 1)
        fprintf(out, ", top-p %g", facts->top_p);
    if (facts->min_p > 0)
        fprintf(out, ", min-p %g", facts->min_p);
    fprintf(out, ", seed %llu\n", (unsigned long long)s->seed);
}

void summary_text(FILE *out, const lsk_stats *s, const lsk_model_info *m, const struct reply_facts *facts)
{
    struct figures f = figures_of(s, m);
    char b[4][96];
    print_work(out, s, &f, facts);
    print_sampling(out, s, facts);
    if (is_cut(s, m))
        fprintf(out, "depth      %d of %d layers: not the text of the whole model\n", s->depth, m->n_layers);
    if (facts->profile && s->exit_layer)
        fprintf(out, "profile    %s: exit layer %d, %d draft%s in a round\n", facts->profile, s->exit_layer, s->num_speculations, plural(s->num_speculations));
    else if (facts->profile)
        fprintf(out, "profile    %s: plain decoding\n", facts->profile);
    if (s->drafted || (s->num_speculations > 0 && s->rounds > 0))
        print_drafts(out, s, m, &f);
    fprintf(out, "memory     weights %s, KV cache %s, %s; peak resident %s\n", bytes_text(m->memory.weights, b[0], 32), bytes_text(m->memory.kv, b[1], 32),
            scratch_text(&m->memory, b[2], sizeof b[2]), bytes_text(facts->rss, b[3], 32));
}

/* Null where nothing was timed. */
static double timed(double figure)
{
    return figure > 0 ? figure : NAN;
}

void summary_json(FILE *out, const lsk_stats *s, const lsk_model_info *m, const struct reply_facts *facts)
{
    struct figures f = figures_of(s, m);
    struct record r = {0};
    record_whole(&r, "prompt_tokens", (unsigned)s->prompt_tokens);
    record_whole(&r, "cached_tokens", (unsigned)s->cached_tokens);
    record_whole(&r, "evaluated_tokens", (unsigned)f.evaluated);
    record_number(&r, "prompt_ms", "%.6g", (double)s->prompt_ns / 1e6);
    record_number(&r, "prompt_tokens_per_second", "%.6g", timed(f.prompt_rate));
    record_whole(&r, "reply_tokens", (unsigned)s->reply_tokens);
    record_text(&r, "finish", finish_name(facts->finish));
    record_number(&r, "reply_ms", "%.6g", (double)s->reply_ns / 1e6);
    record_number(&r, "ms_per_token", "%.6g", timed(f.token_ms));
    record_number(&r, "tokens_per_second", "%.6g", timed(f.reply_rate));
    record_number(&r, "gb_per_second", "%.6g", timed(f.gb_per_s));
    record_text(&r, "sampling", s->temperature > 0 ? "sampled" : "greedy");
    record_number(&r, "temperature", "%.6g", (double)s->temperature);
    if (s->temperature > 0) {
        record_number(&r, "top_k", "%.0f", facts->top_k ? facts->top_k : NAN);
        record_number(&r, "top_p", "%.6g", facts->top_p < 1 ? facts->top_p : NAN);
        record_number(&r, "min_p", "%.6g", facts->min_p > 0 ? facts->min_p : NAN);
        record_whole(&r, "seed", s->seed);
    }
    if (facts->profile)
        record_text(&r, "profile", facts->profile);
    record_whole(&r, "depth", (unsigned)s->depth);
    record_whole(&r, "n_layers", (unsigned)m->n_layers);
    record_whole(&r, "exit_layer", (unsigned)s->exit_layer);
    record_whole(&r, "num_speculations", (unsigned)s->num_speculations);
    record_whole(&r, "draft_head", s->exit_layer ? (unsigned)m->draft_head : 0);
    record_whole(&r, "rounds", (unsigned)s->rounds);
    record_whole(&r, "drafted", (unsigned)s->drafted);
    record_whole(&r, "accepted", (unsigned)s->accepted);
    record_number(&r, "acceptance_rate", "%.6g", s->drafted ? f.acceptance : NAN);
    record_number(&r, "mean_accepted_length", "%.6g", s->drafted ? f.length : NAN);
    record_number(&r, "reads_over_plain", "%.6g", timed(f.reads));
    record_number(&r, "host_waits", "%.0f", s->waits ? (double)s->waits : NAN);
    record_text(&r, "device", m->device);
    record_number(&r, "load_ms", "%.6g", timed((double)m->load_ns / 1e6));
    record_whole(&r, "weight_bytes", m->memory.weights);
    record_whole(&r, "kv_bytes", m->memory.kv);
    record_whole(&r, "scratch_bytes", m->memory.scratch);
    record_whole(&r, "draft_bytes", m->memory.drafts);
    record_whole(&r, "peak_rss_bytes", facts->rss);
    record_json(out, &r);
    fputc('\n', out);
}
