/* SPDX-License-Identifier: Apache-2.0 */
#include "html.h"

#include <string.h>

#include "messages.h"

void html_begin(FILE *out, const char *title, const char *style)
{
    fputs("<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport content='width=device-width,initial-scale=1'>\n<title>", out);
    html_text(out, title);
    fprintf(out,
            "</title>\n<style>\n:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:80em;margin:2em auto;padding:0 1em}"
            "h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em}table.numbers{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}"
            ".numbers td,.numbers th{white-space:nowrap;padding:.15em .8em;border-bottom:1px solid #8884;text-align:right}.numbers td:first-child,.numbers th:first-child{text-align:left}"
            "tr.best{font-weight:bold}pre{overflow-x:auto;background:#8882;padding:.6em 1em;border-radius:.4em}svg{max-width:100%%;height:auto}figure{margin:1em 0}\n%s\n</style>\n<body>\n",
            style ? style : "");
}

void html_end(FILE *out)
{
    fputs("</body>\n</html>\n", out);
}

void html_text(FILE *out, const char *text)
{
    static const char special[] = "<>&\"'", *const names[] = {"&lt;", "&gt;", "&amp;", "&quot;", "&#39;"};
    struct shown shown;
    for (size_t left = strlen(text), taken; left; text += taken, left -= taken) {
        const char *found = strchr(special, *text);
        taken = show_character(text, left, &shown);
        fputs(found ? names[found - special] : shown.text, out);
    }
}
