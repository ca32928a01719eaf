/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures that gnuplot draws: NAME.png or NAME.svg, or an <svg> within a page. */
#ifndef TOOLS_PICTURE_H
#define TOOLS_PICTURE_H

#include <stdio.h>

#include "layerskip.h"

struct picture {
    const char *gnuplot; /* the program */
    int width, height;   /* in pixels */
    void (*script)(FILE *out, const void *ud); /* writes gnuplot's commands; the terminal is set before */
    const void *ud;
};

/* A text as gnuplot's tab-separated data can hold it, at most so many characters. Never first in its line: that might be the word that ends the data, and what follows would be obeyed. */
void picture_label(FILE *out, const char *text, int characters);

int picture_check(const char *option, const char *path, lsk_error *err); /* LSK_EUSAGE unless it is NAME.png or NAME.svg; option: who gave it */

/* The file has its name only when it is whole. LSK_EUNAVAILABLE where there is no gnuplot. */
int picture_draw(const struct picture *p, const char *path, lsk_error *err);

/* Writes the picture as an <svg> element. `name` sets its ids apart from those of others on the page. */
int picture_inline(const struct picture *p, const char *name, FILE *out, lsk_error *err);

#endif
