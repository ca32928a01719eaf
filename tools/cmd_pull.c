/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "command.h"
#include "common.h"
#include "messages.h"

struct pull_args {
    struct hub_args hub;
    struct show_args show;
};

static const struct option_group groups[] = {{"model", hub_options, offsetof(struct pull_args, hub)}, {"messages", show_options, offsetof(struct pull_args, show)}, {0}};

static int pull(const void *args, lsk_error *err)
{
    const struct pull_args *a = args;
    char *path = NULL;
    if (!a->hub.repository)
        return complain(err, LSK_EUSAGE, "no model named: ORG/NAME, as in the address of its page on the hub");
    int r = hub_find(&a->hub, ASK_HUB, a->show.progress, &path, err);
    if (r >= 0) {
        print_shown(stdout, path);
        putchar('\n');
    }
    free(path);
    return r;
}

const struct command command_pull = {
    "pull",
    "downloads a model from the Hugging Face hub, and prints where it lies",
    "ORG/NAME[:FILE-OR-TYPE] [OPTIONS]",
    "Asks the hub and fetches what is not in the cache yet; the path on stdout is what -m takes. `-hf ORG/NAME` with any command does the same, but\n"
    "asks nobody when the cache has the model. The cache is the one of Hugging Face's own tools, so nothing is stored twice:\n"
    "HF_HUB_CACHE, else $HF_HOME/hub, else ~/.cache/huggingface/hub.\n\n"
    "Of a repository with GGUF files one is fetched, with all its parts; else config.json, tokenizer and safetensors. An interrupted download goes\n"
    "on where it ended, and a file appears when it is complete and its hash is right.\n\n"
    "environment\n"
    "  HF_TOKEN                        for gated repositories, whose licence has to be accepted on their page; else the file HF_TOKEN_PATH\n"
    "  HF_ENDPOINT                     another hub (default https://huggingface.co); https_proxy and no_proxy count too\n"
    "  HF_HUB_OFFLINE=1                ask nobody, as --offline",
    "  layerskip pull facebook/layerskip-llama3.2-1B\n"
    "  layerskip run -hf facebook/layerskip-llama3.2-1B -p \"Once upon a time\" --exit-layer 4\n"
    "  layerskip info -m \"$(layerskip pull ORG/NAME:Q4_1)\"\n",
    "hf-repo",
    groups,
    sizeof(struct pull_args),
    pull,
    NULL};
