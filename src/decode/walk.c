/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/decode.h"

static int child_with(const struct tree *tree, int parent, int32_t token)
{
    for (int i = parent + 1; i < tree->n; i++)
        if (tree->node[i].parent == parent && tree->node[i].row.token == token)
            return i;
    return -1;
}

void walk_tree(struct walk *out, const struct tree *tree, const struct pick *picks)
{
    out->n = 0;
    for (int at = 0; at >= 0; at = child_with(tree, at, picks[at].token)) {
        out->node[out->n] = at;
        out->pick[out->n++] = picks[at];
    }
}
