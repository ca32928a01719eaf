/* SPDX-License-Identifier: Apache-2.0 */
#include "decode/decode.h"

struct node *tree_add(struct tree *tree, int parent, int32_t token, int kind, float chance)
{
    const struct row *root = &tree->node[0].row, *above = &tree->node[parent].row;
    struct node *node = &tree->node[tree->n];
    *node = (struct node){.row = *above, .parent = parent, .kind = (uint8_t)kind, .reach = tree->node[parent].reach * chance};
    node->row.token = token;
    node->row.pos++;
    node->row.slot = root->slot + tree->n;
    node->row.h = root->h + tree->n++;
    node->row.also |= (uint64_t)1 << (above->slot - root->slot);
    return node;
}

int tree_child(const struct tree *tree, int parent, int32_t token)
{
    for (int i = parent + 1; i < tree->n; i++)
        if (tree->node[i].parent == parent && tree->node[i].row.token == token)
            return i;
    return -1;
}

void walk_tree(struct walk *out, const struct tree *tree, const struct pick *picks)
{
    out->n = 0;
    for (int at = 0; at >= 0; at = tree_child(tree, at, picks[at].token)) {
        out->node[out->n] = at;
        out->pick[out->n++] = picks[at];
    }
}
