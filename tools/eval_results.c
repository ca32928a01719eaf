/* SPDX-License-Identifier: Apache-2.0 */
#include "eval_results.h"

#include <math.h>
#include <string.h>

#include "json_table.h"

/* A number, or null where there is none. */
static json_t *real(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *results_begin(const lsk_model_info *m, const struct machine *machine)
{
    json_t *model = json_pack("{s:s, s:o, s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i}", "id", m->id, "path", json_of_bytes(m->path), "name", json_of_bytes(m->name), "family", m->family,
                              "weight_type", m->weight_type, "kv_type", m->kv_type, "compute", m->compute, "device", m->device, "kernels", m->kernels, "n_layers", m->n_layers, "n_threads", m->threads);
    return json_pack("{s:s, s:s, s:o, s:s, s:o, s:o}", "layerskip", "eval", "version", lsk_version(), "command", json_of_bytes(machine->command), "date", machine->date,
                     "cpu_info", json_of_bytes(machine->cpu), "model", model);
}

json_t *results_of_text(const struct exit_scores *e, const struct documents *texts, const char *name)
{
    json_t *exits = json_array();
    const double n = (double)e->counted;
    for (int i = 0; i < e->n; i++) {
        const struct exit_score *s = &e->exit[i];
        json_t *row = json_pack("{s:i, s:o, s:o, s:o}", "exit_layer", e->depth[i], "perplexity", real(perplexity_of(e, i)), "perplexity_stderr", real(perplexity_error(e, i)), "agreement",
                                real((double)s->agree / n));
        for (int k = 0; k < WITHINS; k++) {
            char key[16];
            snprintf(key, sizeof key, "in_top_%d", within_top[k]);
            json_object_set_new(row, key, real((double)s->within[k] / n));
        }
        json_object_set_new(row, "accuracy", real((double)s->right / n));
        json_array_append_new(exits, row);
    }
    return json_pack("{s:o, s:I, s:i, s:i, s:i, s:o}", "file", json_of_bytes(name), "tokens", (json_int_t)e->counted, "window", e->length, "documents", texts->n, "bad_rows", texts->rows.bad, "exits",
                     json_whole(exits, (size_t)e->n));
}

json_t *results_of_task(const struct task *t, const int *depth, int n_depths)
{
    json_t *exits = json_array();
    const int rest = t->done - t->chosen;
    for (int k = 0; k < n_depths; k++) {
        const struct task_score *s = &t->score[k];
        json_t *row = json_pack("{s:i, s:o, s:o}", "exit_layer", depth[k], "acc", real(s->right / t->done), "acc_stderr", real(task_stderr(s->right, t->done)));
        if (t->chosen) {
            json_object_set_new(row, "acc_norm", real(s->norm / t->chosen));
            json_object_set_new(row, "acc_norm_stderr", real(task_stderr(s->norm, t->chosen)));
        }
        if (rest) {
            const double mean = s->nats / rest, variance = s->squares / rest - mean * mean;
            json_object_set_new(row, "log_likelihood", real(-mean));
            json_object_set_new(row, "log_likelihood_stderr", real(rest > 1 ? sqrt(fmax(variance, 0) / (rest - 1)) : NAN));
        }
        json_array_append_new(exits, row);
    }
    return json_pack("{s:o, s:i, s:i, s:i, s:o}", "file", json_of_bytes(t->path), "rows", t->done, "with_choices", t->chosen, "bad_rows", t->rows.bad, "exits", json_whole(exits, (size_t)n_depths));
}

/* ---- the picture ---- */

static const struct curve {
    const char *key, *title, *colour;
} curves[] = {{"agreement", "same pick as the last layer", "#0072b2"},
              {"in_top_2", "the last layer''s pick in the top 2", "#56b4e9"},
              {"in_top_5", "in the top 5", "#009e73"},
              {"in_top_10", "in the top 10", "#b0c4a0"},
              {"accuracy", "same pick as the text", "#d55e00"}};
enum { CURVES = sizeof curves / sizeof *curves };

static void write_points(FILE *out, const char *name, const json_t *exits, const char *key)
{
    size_t i;
    const json_t *row;
    fprintf(out, "$%s << END_OF_DATA\n", name);
    json_array_foreach(exits, i, row) {
        const double x = json_number(row, "exit_layer"), y = json_number(row, key);
        if (isfinite(x) && isfinite(y))
            fprintf(out, "%.0f %.6g\n", x, y);
    }
    fputs("END_OF_DATA\n", out);
}

static void write_script(FILE *out, const void *ud)
{
    const json_t *exits = json_object_get(ud, "exits");
    for (int i = 0; i < CURVES; i++)
        write_points(out, curves[i].key, exits, curves[i].key);
    write_points(out, "perplexity", exits, "perplexity");
    fputs("set multiplot\nset origin 0,0\nset size .62,1\nset grid\nset xlabel 'exit layer'\nset key outside right\nset yrange [0:1]\nset title 'next token, by exit layer'\nplot ", out);
    for (int i = 0; i < CURVES; i++)
        fprintf(out, "%s$%s using 1:2 with linespoints pointtype 7 pointsize .5 linecolor rgb '%s' title '%s'", i ? ", " : "", curves[i].key, curves[i].colour, curves[i].title);
    fputs("\nset origin .62,0\nset size .38,1\nset autoscale y\nset logscale y\nset title 'perplexity, by exit layer'\nplot $perplexity using 1:2 with linespoints pointtype 7 pointsize .5 linecolor rgb '#444444' notitle\nunset multiplot\n", out);
}

struct picture results_picture(const json_t *text, const char *gnuplot)
{
    return (struct picture){gnuplot, 1400, 400, write_script, text};
}
