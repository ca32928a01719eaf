/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <math.h>
#include <string.h>

#include "messages.h"

static int add(struct record *r, const char *key, const char *text)
{
    int i = r->n < FIELDS_MAX ? r->n++ : FIELDS_MAX - 1;
    r->field[i].key = key;
    r->field[i].text = text;
    return i;
}

void record_text(struct record *r, const char *key, const char *text)
{
    add(r, key, text ? text : "");
}

void record_raw(struct record *r, const char *key, const char *json)
{
    int i = add(r, key, json);
    r->field[i].raw = 1;
}

void record_whole(struct record *r, const char *key, unsigned long long v)
{
    int i = add(r, key, NULL);
    snprintf(r->field[i].number, sizeof r->field[i].number, "%llu", v);
}

void record_number(struct record *r, const char *key, const char *format, double v)
{
    int i = add(r, key, NULL);
    if (isfinite(v))
        snprintf(r->field[i].number, sizeof r->field[i].number, format, v);
    else
        strcpy(r->field[i].number, "null");
}

void print_json_string(FILE *out, const char *text, size_t n)
{
    fputc('"', out);
    for (size_t i = 0; i < n;) {
        int length = utf8_length(text + i, n - i);
        unsigned char c = (unsigned char)text[i];
        if (!length)
            fputs("\\ufffd", out);
        else if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            fwrite(text + i, 1, (size_t)length, out);
        i += length ? (size_t)length : 1;
    }
    fputc('"', out);
}

void record_json(FILE *out, const struct record *r)
{
    for (int i = 0; i < r->n; i++) {
        fputs(i ? ", " : "{", out);
        print_json_string(out, r->field[i].key, strlen(r->field[i].key));
        fputs(": ", out);
        if (r->field[i].raw)
            fputs(r->field[i].text, out);
        else if (r->field[i].text)
            print_json_string(out, r->field[i].text, strlen(r->field[i].text));
        else
            fputs(r->field[i].number, out);
    }
    fputc('}', out);
}

static void csv_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text; text++)
        fputs((char[]){*text, *text == '"' ? '"' : 0, 0}, out);
    fputc('"', out);
}

void record_csv(FILE *out, const struct record *r, int header)
{
    for (int i = 0; i < r->n; i++) {
        const char *text = header ? r->field[i].key : r->field[i].text;
        if (i)
            fputc(',', out);
        if (text)
            csv_string(out, text);
        else if (strcmp(r->field[i].number, "null"))
            fputs(r->field[i].number, out);
    }
    fputc('\n', out);
}

static const char *cell(const struct record *r, int i)
{
    const char *text = r->field[i].text ? r->field[i].text : r->field[i].number;
    return strcmp(text, "null") ? text : "";
}

/* One line that a table can hold: from outside comes whatever a model calls itself. */
static void print_cell(FILE *out, const char *text, int width)
{
    struct shown shown;
    for (size_t left = strlen(text), taken; left; text += taken, left -= taken) {
        taken = show_character(text, left, &shown);
        width -= fprintf(out, *text == '|' ? "\\%s" : "%s", shown.text);
    }
    fprintf(out, "%*s", width > 0 ? width : 0, "");
}

void record_markdown(FILE *out, const struct record *r, int header)
{
    for (int i = 0; i < r->n; i++) {
        int narrow = r->field[i].text ? 14 : 8, width = (int)strlen(r->field[i].key);
        width = width < narrow ? narrow : width;
        fputs("| ", out);
        if (r->field[i].text)
            print_cell(out, header ? r->field[i].key : cell(r, i), width);
        else
            fprintf(out, "%*s", width, header ? r->field[i].key : cell(r, i));
        fputc(' ', out);
    }
    fputs("|\n", out);
    for (int i = 0; header && i < r->n; i++)
        fputs(r->field[i].text ? "| --- " : "| --: ", out);
    fputs(header ? "|\n" : "", out);
}
