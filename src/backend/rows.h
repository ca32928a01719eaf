/* SPDX-License-Identifier: Apache-2.0 */
/* What no backend may be handed. All of it would be our own bug, and none may corrupt memory. */
#ifndef BACKEND_ROWS_H
#define BACKEND_ROWS_H

#include "backend/backend.h"
#include "backend/pages.h"

/* Before pages are reserved: numbers in range. least: the lowest token there may be (0, or below zero in a chain of drafts). */
int rows_check(const struct config *c, const struct device_options *o, const struct pages *p, int first, int last, int least, const struct row *rows, int n, struct error *err);

/* After: every ancestor that a row names lies in a page of its timeline. */
int rows_check_ancestors(const struct pages *p, const struct row *rows, int n, struct error *err);

#endif
