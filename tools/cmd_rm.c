/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"
#include "hub.h"
#include "hub_cache.h"
#include "messages.h"
#include "summary.h"

struct rm_args {
    const char *name;
};

static const struct option rm_options[] = {{"name", OPT_TEXT, offsetof(struct rm_args, name), "ORG/NAME[:TYPE]", .help = "the model as `layerskip list` names it; without :TYPE all of the repository"}, {0}};
static const struct option_group groups[] = {{"model", rm_options, 0}, {0}};

static int rm(const void *args, lsk_error *err)
{
    const struct rm_args *a = args;
    char id[200], size[32];
    const char *pick;
    uint64_t freed = 0;
    if (!a->name)
        return complain(err, LSK_EUSAGE, "no model named: ORG/NAME or ORG/NAME:TYPE, as `layerskip list` has it");
    int r = hub_split(a->name, id, sizeof id, &pick, err);
    if (r >= 0 && (r = cache_remove(id, *pick ? pick : NULL, &freed, err)) == LSK_ENOINPUT && *pick) {
        lsk_error why = *err;
        complain(err, r, "%s: %s", id, why.text);
    }
    if (r >= 0)
        fprintf(stderr, "removed %s: %s\n", excerpt_of(a->name).text, bytes_text(freed, size, sizeof size));
    return r;
}

const struct command command_rm = {"rm",
                                   "removes a model from the hub's cache",
                                   "ORG/NAME[:FILE-OR-TYPE]",
                                   "Removes one model, or without :TYPE everything of the repository, whoever brought it there: Hugging Face's own tools use the same cache. Asks no\n"
                                   "questions; `pull` brings a model back. Files that another model of the repository uses stay.",
                                   "  layerskip rm ORG/NAME:Q4_1\n  layerskip rm ORG/NAME\n",
                                   "name",
                                   groups,
                                   sizeof(struct rm_args),
                                   rm,
                                   NULL};
