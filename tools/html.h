/* SPDX-License-Identifier: Apache-2.0 */
/* Self-contained pages: no script, nothing fetched. */
#ifndef TOOLS_HTML_H
#define TOOLS_HTML_H

#include <stdio.h>

void html_begin(FILE *out, const char *title, const char *style); /* to the beginning of the body; style: what this page needs beside the usual, or NULL */
void html_end(FILE *out);
void html_text(FILE *out, const char *text); /* escaped; control characters and what is not UTF-8 as \n, \xNN */

#endif
