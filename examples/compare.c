/* SPDX-License-Identifier: Apache-2.0 */
/* One reply plainly and drafted by the first layers: the same tokens, how much faster? compare MODEL EXIT_LAYER DRAFTS TEXT */
#include <layerskip.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT = 512, REPLY = 256 };
struct reply {
    int32_t token[REPLY];
    int n;
};

static int keep(void *ud, const lsk_event *e)
{
    struct reply *r = ud;
    if (e->token >= 0)
        r->token[r->n++] = e->token; /* at most max_tokens */
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 5)
        return fprintf(stderr, "usage: %s MODEL EXIT_LAYER DRAFTS TEXT\n", argv[0]), 64;
    const lsk_generate_options o[2] = {{.drafter = "none", .max_tokens = REPLY}, {.exit_layer = atoi(argv[2]), .num_speculations = atoi(argv[3]), .max_tokens = REPLY}};
    struct reply reply[2] = {0};
    lsk_stats stats;
    lsk_error err = {.text = "the text is too long"};
    int32_t tokens[PROMPT];
    lsk_model *m = lsk_model_open(argv[1], &(lsk_model_options){.context = PROMPT + REPLY}, &err);
    lsk_session *s = m ? lsk_session_open(m, &err) : NULL;
    int n = s ? lsk_encode(m, argv[4], strlen(argv[4]), LSK_ENCODE_BOS, tokens, PROMPT, &err) : -1, failed = n < 0 || n > PROMPT;
    for (int i = 0; i < 2 && !failed; i++) {
        failed = lsk_generate(s, tokens, n, &o[i], keep, &reply[i], &stats, &err) < 0;
        if (!failed)
            printf("%3d tokens at %.1f/s, %d of %d drafts accepted\n", reply[i].n, reply[i].n * 1e9 / (double)stats.reply_ns, stats.accepted, stats.drafted);
    }
    puts(failed ? err.text : memcmp(&reply[0], &reply[1], sizeof *reply) ? "DIFFERENT TOKENS" : "the same tokens");
    lsk_session_close(s);
    lsk_model_close(m);
    return failed;
}
