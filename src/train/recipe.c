/* SPDX-License-Identifier: Apache-2.0 */
#include "train/recipe.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/philox.h"

enum { STREAM_DROPOUT = 1 }; /* last word of the generator's counter */

/* clang-format off */
static const struct recipe recipes[] = {
    /*                                                                                             p_max grows scale curriculum             R  rate anchor decay batch steps length */
    {"distill", "the model's own last layer teaches the exits: for a short run on little data",     0.0, false, 0.0, CURRICULUM_DISTILL,     0, 3e-4, 4, 0,  0, 0, 0},
    {"plain", "no dropout, last layer only: ordinary training",                                     0.0, false, 0.0, CURRICULUM_NONE,        0, 3e-5, 0, .1, 0, 0, 0},
    {"layerskip-llama2-7b", "Llama 2 7B, continual",                                                0.1, false, 0.2, CURRICULUM_ROTATIONAL,  8, 3e-5, 0, .1, 256, 50000, 4096},
    {"layerskip-llama2-13b", "Llama 2 13B, continual",                                              0.1, false, 0.1, CURRICULUM_ROTATIONAL, 39, 2e-5, 0, .1, 256, 50000, 4096},
    {"layerskip-llama3-8b", "Llama 3 8B, continual, 419 G tokens (its rate is not published)",      0.1, false, 0.1, CURRICULUM_ROTATIONAL,  8, 2e-5, 0, .1, 0, 0, 0},
    {"layerskip-llama3.2-1b", "Llama 3.2 1B, continual, 839 G tokens (its rate is not published)",  0.1, false, 0.1, CURRICULUM_ROTATIONAL,  8, 3e-5, 0, .1, 0, 0, 0},
    {"layerskip-llama1-7b-code", "Llama 1 7B, finetuned on code",                                   0.1, false, 1.0, CURRICULUM_ROTATIONAL, 16, 1e-4, 0, .1, 128, 10000, 4096},
    {"layerskip-llama-1.5b-scratch", "1.5 G parameters and 24 layers, from scratch",                0.1, true,  0.2, CURRICULUM_ROTATIONAL, 23, 8e-4, 0, .1, 128, 50000, 4096},
    {"layerskip-llama2-7b-scratch", "Llama 2 7B, from scratch",                                     0.2, true,  0.2, CURRICULUM_ROTATIONAL, 31, 8e-4, 0, .1, 128, 50000, 4096},
    {"layerskip-topv2", "1.5 G parameters and 24 layers, finetuned on TOPv2",                       0.2, false, 1.0, CURRICULUM_GRADUAL,     0, 1e-4, 0, .1, 256, 5800, 0},
};
/* clang-format on */

enum { N_RECIPES = sizeof recipes / sizeof *recipes };

const struct recipe *recipe_at(int i) { return i >= 0 && i < N_RECIPES ? &recipes[i] : NULL; }

const struct recipe *recipe_find(const char *name)
{
    for (int i = 0; i < N_RECIPES; i++)
        if (!strcmp(recipes[i].name, name))
            return &recipes[i];
    return NULL;
}

/* ---- a run ---- */

void schedule_default_exits(struct schedule *s)
{
    for (int divide = 4; divide >= 2; divide--) {
        int layer = s->layers / divide;
        if (layer >= 1 && (!s->n_exits || s->exit[s->n_exits - 1] != layer))
            s->exit[s->n_exits++] = layer;
    }
}

static int check_number(const char *what, double v, double lo, double hi, struct error *err)
{
    return v >= lo && v <= hi ? 0 : fail(err, ERR_USAGE, "%s %g: must be %g to %g", what, v, lo, hi);
}

int schedule_check(const struct schedule *s, struct error *err)
{
    const struct recipe *r = &s->recipe;
    const struct {
        const char *what;
        double value, lo, hi;
    } range[] = {
        {"layers", s->layers, 1, RECIPE_LAYERS_MAX}, {"steps", s->steps, 1, 1 << 30}, {"layer dropout", r->drop_max, 0, 0.999}, {"exit scale", r->exit_scale, 0, 1},
        {"rotation", r->rotation, r->curriculum == CURRICULUM_ROTATIONAL, RECIPE_LAYERS_MAX}, {"learning rate", r->rate, 1e-12, 1}, {"weight of the anchor", r->anchor, 0, 1000}, {"warm-up", s->warmup, 0, 1},
        {"floor of the learning rate", s->floor, 0, 1}, {"number of exits", s->n_exits, 0, RECIPE_EXITS_MAX},
    };
    int rc = 0;
    for (size_t i = 0; i < sizeof range / sizeof *range && !rc; i++)
        rc = check_number(range[i].what, range[i].value, range[i].lo, range[i].hi, err);
    for (int i = 0; i < s->n_exits && !rc; i++) {
        if (s->exit[i] < 1 || s->exit[i] >= s->layers)
            return fail(err, ERR_USAGE, "exit layer %d: this model has %d layers: give 1 to %d", s->exit[i], s->layers, s->layers - 1);
        if (i && s->exit[i] <= s->exit[i - 1])
            return fail(err, ERR_USAGE, "exit layers %d, %d: give each once, in ascending order", s->exit[i - 1], s->exit[i]);
    }
    if (!rc && r->curriculum == CURRICULUM_DISTILL && !s->n_exits)
        return fail(err, ERR_USAGE, "recipe distill: a model of %d layer has no exit to teach", s->layers);
    return rc;
}

/* 2^(i/(n-1)) - 1: 0 at the first, 1 at the last of n. */
static double grow(int i, int n) { return n > 1 ? exp2((double)i / (n - 1)) - 1 : 0; }

double schedule_drop(const struct schedule *s, int step, int layer)
{
    return (s->recipe.drop_grows ? grow(step, s->steps) : 1) * grow(layer, s->layers) * s->recipe.drop_max;
}

void schedule_keep(const struct schedule *s, int step, int first, int n, uint8_t *keep)
{
    for (int l = 0; l < s->layers; l++) {
        double p = schedule_drop(s, step, l);
        for (int i = 0; i < n; i++) {
            uint32_t word = philox(s->seed, (uint32_t)step, (uint32_t)l, (uint32_t)(first + i), STREAM_DROPOUT).v[0];
            keep[(size_t)l * (size_t)n + (size_t)i] = ((double)word + 0.5) / 4294967296.0 >= p;
        }
    }
}

static bool enabled(const struct schedule *s, int step, int layer)
{
    const int64_t last = s->layers - 1;
    if (layer == last)
        return true;
    switch (s->recipe.curriculum) {
    case CURRICULUM_ROTATIONAL: return layer % s->recipe.rotation == step % s->recipe.rotation;
    case CURRICULUM_GRADUAL: return (int64_t)step * 2 * s->layers >= (last - layer) * s->steps;
    default: return false;
    }
}

/* e(l). A model of one layer has only its last. */
static double exit_weight(const struct schedule *s, int layer)
{
    const double last = s->layers - 1;
    if (s->layers == 1)
        return 1;
    return layer < s->layers - 1 ? s->recipe.exit_scale * layer * (layer + 1) / 2 : last + s->recipe.exit_scale * (last - 1) * last / 2;
}

static int paper_exits(const struct schedule *s, int step, struct train_exit *out)
{
    double sum = 0;
    int n = 0;
    for (int l = 0; l < s->layers; l++)
        sum += enabled(s, step, l) ? exit_weight(s, l) : 0;
    for (int l = 0; l < s->layers; l++)
        if (enabled(s, step, l) && exit_weight(s, l) > 0) /* what weighs nothing is not computed */
            out[n++] = (struct train_exit){.layer = l + 1, .ce = (float)(exit_weight(s, l) / sum)};
    return n;
}

/* Deeper exits weigh more: .5 at a quarter of the depth, .7 at a third, 1 at half and beyond, straight lines between. */
static double distill_weight(double depth)
{
    if (depth <= 1.0 / 3)
        return 0.5 + (depth < 0.25 ? 0 : (depth - 0.25) * 0.2 * 12);
    return depth < 0.5 ? 0.7 + (depth - 1.0 / 3) * 0.3 * 6 : 1;
}

/* KL divergence gives way to acceptance, from 1 to .3, over the first half of the run. */
static int distill_exits(const struct schedule *s, int step, int micro, int micros, struct train_exit *out)
{
    int layer = s->exit[((int64_t)step * micros + micro) % s->n_exits];
    double weight = distill_weight((double)layer / s->layers), half = s->steps / 2.0, share = 1 - 0.7 * (step < half ? step / half : 1);
    out[0] = (struct train_exit){.layer = layer, .kl = (float)(weight * share), .accept = (float)(weight * (1 - share))};
    out[1] = (struct train_exit){.layer = s->layers, .anchor = (float)s->recipe.anchor};
    return 2;
}

int schedule_exits(const struct schedule *s, int step, int micro, int micros, struct train_exit *out)
{
    return s->recipe.curriculum == CURRICULUM_DISTILL ? distill_exits(s, step, micro, micros, out) : paper_exits(s, step, out);
}

int schedule_most_exits(const struct schedule *s)
{
    const int layers = s->layers, turns = s->recipe.curriculum == CURRICULUM_ROTATIONAL ? s->recipe.rotation : 1;
    switch (s->recipe.curriculum) {
    case CURRICULUM_NONE: return 1;
    case CURRICULUM_DISTILL: return 2;
    default: return (layers - 1 + turns - 1) / turns + 1;
    }
}

double schedule_rate(const struct schedule *s, int step)
{
    int warm = (int)ceil(s->warmup * s->steps);
    if (step < warm)
        return s->recipe.rate * (step + 1) / warm;
    double done = s->steps - 1 > warm ? (double)(step - warm) / (s->steps - 1 - warm) : 1;
    return s->recipe.rate * (s->floor + (1 - s->floor) * 0.5 * (1 + cos(M_PI * done)));
}
