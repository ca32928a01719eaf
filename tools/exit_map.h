/* SPDX-License-Identifier: Apache-2.0 */
/* The early exit map, the picture of the LayerSkip paper: for a text, the token that every layer would pick at every position. */
#ifndef TOOLS_EXIT_MAP_H
#define TOOLS_EXIT_MAP_H

#include <jansson.h>
#include <stdio.h>

#include "common.h"
#include "layerskip.h"
#include "picture.h"

struct map_cell {
    int32_t token;
    float p; /* its probability there */
    struct piece_text text;
};

struct exit_map {
    int layers, n;         /* positions whose next token is foretold */
    struct map_cell *cell; /* [layers][n]; the last layer's picks come last */
    struct map_cell *word; /* [n] the text itself; p is not used */
    const lsk_model *model;
};

/* What a layer's pick is, seen from the last layer. */
enum map_kind { MAP_OTHER, MAP_SAME, MAP_SETTLED /* and every later layer picks it too */ };
enum map_kind map_kind(const struct exit_map *m, int layer, int i); /* layer from 0 */
int map_settled(const struct exit_map *m, int i);                   /* layers after which position i has the last layer's pick for good */

int exit_map_fill(struct exit_map *m, const lsk_model *model, lsk_session *s, const int32_t *token, int n, lsk_error *err);
void exit_map_free(struct exit_map *m);

void exit_map_text(FILE *out, const struct exit_map *m, int colour, int columns); /* in 256 colours; without: = marks agreement */
void exit_map_table(FILE *out, const struct exit_map *m);                         /* a table of HTML; its looks are map_style */
int exit_map_page(const struct exit_map *m, const char *path, const char *model, lsk_error *err);
int exit_map_picture(const struct exit_map *m, const char *path, const char *gnuplot, lsk_error *err);
extern const char map_style[];

/* {"words": ["The", ...], "layers": [[[token, probability, "text"], ...], ...]}; caller frees; NULL: out of memory */
json_t *exit_map_json(const struct exit_map *m);
int exit_map_load(struct exit_map *m, const json_t *j, const char *place, lsk_error *err);

#endif
