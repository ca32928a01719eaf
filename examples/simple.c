/* SPDX-License-Identifier: Apache-2.0 */
/* Streams what a model thinks comes next: simple MODEL TEXT */
#include <layerskip.h>
#include <stdio.h>
#include <string.h>

static int show(void *ud, const lsk_event *e)
{
    (void)ud;
    fwrite(e->text, 1, e->n_text, stdout);
    return fflush(stdout); /* not zero, as when nobody reads any more, ends the reply */
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return fprintf(stderr, "usage: %s MODEL TEXT\n", argv[0]), 64;
    int32_t tokens[512];
    lsk_error err = {.text = "the text is too long"};
    lsk_model *m = lsk_model_open(argv[1], &(lsk_model_options){.context = 1024}, &err);
    lsk_session *s = m ? lsk_session_open(m, &err) : NULL;
    int n = s ? lsk_encode(m, argv[2], strlen(argv[2]), LSK_ENCODE_BOS, tokens, 512, &err) : -1; /* how many there are, which may be more than 512 */
    int failed = n < 0 || n > 512 || lsk_generate(s, tokens, n, &(lsk_generate_options){.max_tokens = 64}, show, NULL, NULL, &err) < 0;
    puts(failed ? err.text : "");
    lsk_session_close(s);
    lsk_model_close(m);
    return failed;
}
