/* SPDX-License-Identifier: Apache-2.0 */
#include "exit_map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "exit_scores.h"
#include "html.h"
#include "json_table.h"
#include "messages.h"
#include "whole_file.h"

static const struct map_cell *cell_at(const struct exit_map *m, int layer, int i)
{
    return &m->cell[(size_t)layer * (size_t)m->n + (size_t)i];
}

int map_settled(const struct exit_map *m, int i)
{
    int layer = m->layers - 1;
    while (layer > 0 && cell_at(m, layer - 1, i)->token == cell_at(m, m->layers - 1, i)->token)
        layer--;
    return layer + 1;
}

enum map_kind map_kind(const struct exit_map *m, int layer, int i)
{
    if (layer + 1 >= map_settled(m, i))
        return MAP_SETTLED;
    return cell_at(m, layer, i)->token == cell_at(m, m->layers - 1, i)->token ? MAP_SAME : MAP_OTHER;
}

/* ---- filling ---- */

static int take_logits(void *ud, int i, int depth, const float *logits, int n_vocab)
{
    const struct exit_map *m = ud;
    struct map_cell *c = &m->cell[(size_t)(depth - 1) * (size_t)m->n + (size_t)i];
    likeliest(logits, n_vocab, &c->token, 1);
    c->p = (float)exp(-surprise(logits, n_vocab, logits[c->token], c->token));
    c->text = piece_of(m->model, c->token);
    return terminal_interrupted();
}

static int make_room(struct exit_map *m, int layers, int n, lsk_error *err)
{
    *m = (struct exit_map){.layers = layers, .n = n, .cell = calloc((size_t)layers * (size_t)n, sizeof *m->cell), .word = calloc((size_t)n, sizeof *m->word)};
    return m->cell && m->word ? 0 : complain(err, LSK_EOS, "out of memory");
}

int exit_map_fill(struct exit_map *m, const lsk_model *model, lsk_session *s, const int32_t *token, int n, lsk_error *err)
{
    const int layers = lsk_model_about(model)->n_layers;
    int *depth = malloc((size_t)layers * sizeof *depth), r = make_room(m, layers, n, err);
    m->model = model;
    if (r >= 0 && !depth)
        r = complain(err, LSK_EOS, "out of memory");
    for (int i = 0; r >= 0 && i < layers; i++)
        depth[i] = i + 1;
    for (int i = 0; r >= 0 && i < n; i++)
        m->word[i] = (struct map_cell){.token = token[i], .text = piece_of(model, token[i])};
    if (r >= 0)
        r = lsk_score_exits(s, token, n, 0, depth, layers, take_logits, m, err);
    free(depth);
    return r;
}

void exit_map_free(struct exit_map *m)
{
    free(m->cell);
    free(m->word);
}

/* ---- in the terminal ---- */

enum { CELL = 8, MARGIN = 5 };

/* A piece (whole printable characters) in so many columns: cut, or filled with blanks. */
static void print_cell(FILE *out, const char *text, int width)
{
    int used = 0;
    for (int n; *text && used < width; used++, text += n)
        fprintf(out, "%.*s", n = utf8_length(text, strlen(text)), text);
    fprintf(out, "%*s", width - used, "");
}

static void print_layer(FILE *out, const struct exit_map *m, int layer, int from, int to, int colour)
{
    static const char *const colours[] = {[MAP_OTHER] = "\033[48;5;236m\033[38;5;250m", [MAP_SAME] = "\033[48;5;108m\033[38;5;16m", [MAP_SETTLED] = "\033[48;5;28m\033[38;5;231m"};
    fprintf(out, "%*d ", MARGIN - 1, layer + 1);
    for (int i = from; i < to; i++) {
        const enum map_kind kind = map_kind(m, layer, i);
        fputs(colour ? colours[kind] : kind == MAP_OTHER ? " " : "=", out);
        print_cell(out, cell_at(m, layer, i)->text.text, CELL - 1 - !colour);
        fputs(colour ? "\033[0m " : " ", out);
    }
    fputc('\n', out);
}

/* Blocks as wide as the terminal, one below the other; deepest layer first, as in the paper. */
void exit_map_text(FILE *out, const struct exit_map *m, int colour, int columns)
{
    const int across = columns > MARGIN + CELL ? (columns - MARGIN) / CELL : 1;
    for (int from = 0; from < m->n; from += across) {
        const int to = m->n - from < across ? m->n : from + across;
        for (int layer = m->layers - 1; layer >= 0; layer--)
            print_layer(out, m, layer, from, to, colour);
        fprintf(out, "%*s", MARGIN, "");
        for (int i = from; i < to; i++) {
            fputs(colour ? "" : " ", out);
            print_cell(out, m->word[i].text.text, CELL - 1 - !colour);
            fputc(' ', out);
        }
        fputs(to < m->n ? "\n\n" : "\n", out);
    }
}

/* ---- as HTML ---- */

const char map_style[] = ".map{overflow-x:auto}.map table{border-collapse:separate;border-spacing:1px;font:12px/1.5 ui-monospace,monospace}"
                         ".map td,.map th{padding:0 4px;white-space:pre;text-align:left;font-weight:normal}"
                         ".map th{color:#777;text-align:right}.map tr:last-child td{color:inherit;background:none;font-weight:bold}"
                         ".map td{background:#e6e6e6;color:#555}.map td.a{background:#b7dfb9;color:#123}.map td.s{background:#2e8b3d;color:#fff}";

void exit_map_table(FILE *out, const struct exit_map *m)
{
    static const char *const classes[] = {[MAP_OTHER] = "", [MAP_SAME] = " class=a", [MAP_SETTLED] = " class=s"};
    fputs("<div class=map><table>\n", out);
    for (int layer = m->layers - 1; layer >= 0; layer--) {
        fprintf(out, "<tr><th>%d</th>", layer + 1);
        for (int i = 0; i < m->n; i++) {
            const struct map_cell *c = cell_at(m, layer, i);
            fprintf(out, "<td%s title=%.2f>", classes[map_kind(m, layer, i)], (double)c->p);
            html_text(out, c->text.text);
            fputs("</td>", out);
        }
        fputs("</tr>\n", out);
    }
    fputs("<tr><th>text</th>", out);
    for (int i = 0; i < m->n; i++) {
        fputs("<td>", out);
        html_text(out, m->word[i].text.text);
        fputs("</td>", out);
    }
    fputs("</tr>\n</table></div>\n", out);
}

int exit_map_page(const struct exit_map *m, const char *path, const char *model, lsk_error *err)
{
    struct whole_file w;
    int r = whole_open(&w, path, err);
    if (r < 0)
        return r;
    html_begin(w.f, "Early exit map", map_style);
    fputs("<h1>Early exit map</h1>\n<p>", w.f);
    html_text(w.f, model);
    fputs(": the token that each layer, through the model's own last norm and head, would put behind each token of the text in the last line. Green: the last layer's token, and every layer "
          "from there on says it too; pale green: the last layer's, but a later layer changes its mind; grey: another. A cell's tooltip is its probability.</p>\n",
          w.f);
    exit_map_table(w.f, m);
    html_end(w.f);
    return whole_close(&w, 0, err);
}

/* ---- as a picture ---- */

enum { CELL_WIDTH = 62, CELL_HEIGHT = 17, LABEL = 8 };

static void write_script(FILE *out, const void *ud)
{
    static const struct {
        const char *fill, *text;
    } looks[] = {[MAP_OTHER] = {"#e6e6e6", "#555555"}, [MAP_SAME] = {"#b7dfb9", "#112233"}, [MAP_SETTLED] = {"#2e8b3d", "#ffffff"}};
    const struct exit_map *m = ud;
    fputs("set datafile separator \"\\t\"\nset datafile commentschars ''\n", out);
    for (int kind = 0; kind < 3; kind++) {
        fprintf(out, "$kind%d << END_OF_DATA\n0\t-9\t\n", kind); /* never empty: gnuplot would refuse it */
        for (int layer = 0; layer < m->layers; layer++)
            for (int i = 0; i < m->n; i++)
                if ((int)map_kind(m, layer, i) == kind) {
                    fprintf(out, "%d\t%d\t", i + 1, layer + 1);
                    picture_label(out, cell_at(m, layer, i)->text.text, LABEL);
                    fputc('\n', out);
                }
        fputs("END_OF_DATA\n", out);
    }
    fputs("$text << END_OF_DATA\n", out);
    for (int i = 0; i < m->n; i++) {
        fprintf(out, "%d\t0\t", i + 1);
        picture_label(out, m->word[i].text.text, LABEL);
        fputc('\n', out);
    }
    fprintf(out,
            "END_OF_DATA\nset title 'the token that each layer would put behind the text below' noenhanced\nset xrange [0.4:%d.6]\nset yrange [-0.6:%d.6]\nset ylabel 'layer'\nset border 0\n"
            "set tics scale 0\nset xtics format ''\nset ytics 1,%d font ',8'\nset style fill solid\nset boxwidth 0.96\nunset key\nplot ",
            m->n, m->layers, m->layers > 40 ? 4 : 1);
    for (int kind = 0; kind < 3; kind++)
        fprintf(out, "$kind%d using 1:2:($1-.48):($1+.48):($2-.46):($2+.46) with boxxyerror linecolor rgb '%s', $kind%d using 1:2:3 with labels noenhanced font ',7' textcolor rgb '%s', ", kind,
                looks[kind].fill, kind, looks[kind].text);
    fputs("$text using 1:2:3 with labels noenhanced font ',8'\n", out);
}

int exit_map_picture(const struct exit_map *m, const char *path, const char *gnuplot, lsk_error *err)
{
    return picture_draw(&(struct picture){gnuplot, 110 + m->n * CELL_WIDTH, 90 + m->layers * CELL_HEIGHT, write_script, m}, path, err);
}

/* ---- as JSON ---- */

json_t *exit_map_json(const struct exit_map *m)
{
    json_t *words = json_array(), *layers = json_array();
    for (int i = 0; i < m->n; i++)
        json_array_append_new(words, json_string(m->word[i].text.text));
    for (int layer = 0; layer < m->layers; layer++) {
        json_t *cells = json_array();
        for (int i = 0; i < m->n; i++) {
            const struct map_cell *c = cell_at(m, layer, i);
            json_array_append_new(cells, json_pack("[i, f, s]", (int)c->token, (double)c->p, c->text.text));
        }
        json_array_append_new(layers, json_whole(cells, (size_t)m->n));
    }
    return json_pack("{s:o, s:o}", "words", json_whole(words, (size_t)m->n), "layers", json_whole(layers, (size_t)m->layers));
}

/* As piece_of leaves it, whatever the file holds. */
static void load_text(struct piece_text *t, const char *text)
{
    struct shown shown;
    size_t used = 0;
    for (size_t left = strlen(text), taken; left && used < sizeof t->text - sizeof shown; text += taken, left -= taken) {
        taken = show_character(text, left, &shown);
        used += (size_t)snprintf(t->text + used, sizeof t->text - used, "%s", shown.text);
    }
}

static int load_cell(struct map_cell *c, const json_t *j)
{
    const json_t *token = json_array_get(j, 0), *p = json_array_get(j, 1);
    const char *text = json_string_value(json_array_get(j, 2));
    if (!json_is_integer(token) || !json_is_number(p) || !text || json_integer_value(token) < 0 || json_integer_value(token) > INT32_MAX)
        return -1;
    *c = (struct map_cell){.token = (int32_t)json_integer_value(token), .p = (float)json_number_value(p)};
    load_text(&c->text, text);
    return 0;
}

int exit_map_load(struct exit_map *m, const json_t *j, const char *place, lsk_error *err)
{
    const json_t *words = json_object_get(j, "words"), *layers = json_object_get(j, "layers");
    const size_t n = json_array_size(words), n_layers = json_array_size(layers);
    if (!n || !n_layers || n > 4096 || n_layers > 1024)
        return complain(err, LSK_EDATA, "%s: \"map\" must have \"words\" and \"layers\": write it again with `layerskip eval`", place);
    int r = make_room(m, (int)n_layers, (int)n, err);
    for (size_t i = 0; r >= 0 && i < n; i++) {
        const char *word = json_string_value(json_array_get(words, i));
        load_text(&m->word[i].text, word ? word : "");
    }
    for (size_t l = 0; r >= 0 && l < n_layers; l++)
        for (size_t i = 0; r >= 0 && i < n; i++)
            if (load_cell(&m->cell[l * n + i], json_array_get(json_array_get(layers, l), i)))
                r = complain(err, LSK_EDATA, "%s: \"map\": layer %zu, position %zu: must be [token, probability, \"text\"]", place, l + 1, i);
    return r;
}
