/* SPDX-License-Identifier: Apache-2.0 */
#include "json_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "html.h"
#include "messages.h"
#include "record.h"

double json_number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

json_t *json_whole(json_t *list, size_t n)
{
    if (json_array_size(list) == n)
        return list;
    json_decref(list);
    return NULL;
}

json_t *json_of_bytes(const char *text)
{
    char *quoted = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&quoted, &n);
    if (!f)
        return NULL;
    print_json_string(f, text, strlen(text));
    json_t *j = fclose(f) ? NULL : json_loadb(quoted, n, JSON_DECODE_ANY, NULL);
    free(quoted);
    return j;
}

struct cell {
    char text[256];
};

/* A value as people read it: four digits behind the point, or as many as a large number needs. */
static struct cell cell_of(const json_t *v)
{
    struct cell c = {""};
    const double x = json_number_value(v);
    if (json_is_integer(v))
        snprintf(c.text, sizeof c.text, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        snprintf(c.text, sizeof c.text, fabs(x) < 1e5 ? "%.4f" : "%.3e", x);
    else if (json_is_string(v))
        snprintf(c.text, sizeof c.text, "%s", json_string_value(v));
    return c;
}

/* "perplexity_stderr" is "± stderr": it belongs to what stands before it. */
static struct cell title_of(const char *key)
{
    struct cell c;
    const size_t n = strlen(key);
    snprintf(c.text, sizeof c.text, "%s", n > 7 && !strcmp(key + n - 7, "_stderr") ? "± stderr" : key);
    for (char *p = c.text; *p; p++)
        *p = *p == '_' ? ' ' : *p;
    return c;
}

void json_table_markdown(FILE *out, const json_t *rows)
{
    const char *key;
    const json_t *row, *first = json_array_get(rows, 0);
    json_t *v;
    size_t i;
    json_object_foreach((json_t *)first, key, v)
        fprintf(out, "| %s ", title_of(key).text);
    fputs("|\n", out);
    json_object_foreach((json_t *)first, key, v)
        fputs(json_is_string(v) ? "| --- " : "| --: ", out);
    fputs("|\n", out);
    json_array_foreach(rows, i, row) {
        json_object_foreach((json_t *)first, key, v) {
            fputs("| ", out);
            print_shown(out, cell_of(json_object_get(row, key)).text);
            fputc(' ', out);
        }
        fputs("|\n", out);
    }
}

void json_table_html(FILE *out, const json_t *rows)
{
    const char *key;
    const json_t *row, *first = json_array_get(rows, 0);
    json_t *v;
    size_t i;
    fputs("<table class=numbers>\n<tr>", out);
    json_object_foreach((json_t *)first, key, v) {
        fputs("<th>", out);
        html_text(out, title_of(key).text);
        fputs("</th>", out);
    }
    fputs("</tr>\n", out);
    json_array_foreach(rows, i, row) {
        fputs("<tr>", out);
        json_object_foreach((json_t *)first, key, v) {
            fputs("<td>", out);
            html_text(out, cell_of(json_object_get(row, key)).text);
            fputs("</td>", out);
        }
        fputs("</tr>\n", out);
    }
    fputs("</table>\n", out);
}
