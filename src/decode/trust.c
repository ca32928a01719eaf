/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/trust.h"

/* A guess before anything is seen counts as much as PRIOR drafts; what is seen counts up to about MEMORY. */
static const float PRIOR = 3, FAMILY_PRIOR = 3, MEMORY = 64, FADE = 0.998f;

int trust_kind(int first, float conf)
{
    int level = (int)(conf * TRUST_LEVELS);
    return first + (level < 0 ? 0 : level < TRUST_LEVELS ? level : TRUST_LEVELS - 1);
}

static float guess(int kind)
{
    if (kind < TRUST_EXIT)
        return (float)kind / ((float)kind + 2.5f);
    float conf = ((float)((kind - TRUST_EXIT) % TRUST_LEVELS) + 0.5f) / TRUST_LEVELS;
    return kind < TRUST_FIRST ? conf : 0.7f * conf;
}

static int family(int kind) { return kind < TRUST_EXIT ? 0 : 1 + (kind - TRUST_EXIT) / TRUST_LEVELS; }

float trust_chance(const struct trust *t, int kind)
{
    int f = family(kind);
    float hint = guess(kind) * (t->came[f] + FAMILY_PRIOR) / (t->expected[f] + FAMILY_PRIOR);
    return (t->right[kind] + PRIOR * (hint < 1 ? hint : 1)) / (t->tried[kind] + PRIOR);
}

float trust_exit(const struct trust *t) { return (t->found + PRIOR * 0.6f) / (t->passes + PRIOR); }

void trust_found(struct trust *t, float chance)
{
    float keep = 1 - 1 / MEMORY;
    t->passes = t->passes * keep + 1;
    t->found = t->found * keep + chance;
}

void trust_learn(struct trust *t, int kind, bool right)
{
    float keep = 1 - 1 / MEMORY;
    t->tried[kind] = t->tried[kind] * keep + 1;
    t->right[kind] = t->right[kind] * keep + (right ? 1.0f : 0.0f);
    int f = family(kind);
    t->expected[f] = t->expected[f] * keep + guess(kind);
    t->came[f] = t->came[f] * keep + (right ? 1.0f : 0.0f);
}

void trust_fade(struct trust *t)
{
    for (int i = 0; i < TRUST_KINDS; i++) {
        t->tried[i] *= FADE;
        t->right[i] *= FADE;
    }
    t->passes *= FADE;
    t->found *= FADE;
    for (int f = 0; f < TRUST_FAMILIES; f++) {
        t->expected[f] *= FADE;
        t->came[f] *= FADE;
    }
}
