/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <string.h>

#include "backend/backend.h"
#include "backend/pages.h"

enum { SEQS = 3, SLOTS = 700, PAGES = 3 };

struct copies {
    int n, to, from, rc;
};

static int copy(void *arg, int to, int from, struct error *err)
{
    struct copies *c = arg;
    c->n++;
    c->to = to;
    c->from = from;
    return c->rc ? fail(err, c->rc, "no copy") : 0;
}

struct fixture {
    struct arena arena;
    struct pages p;
    struct copies copies;
};

static void open_all(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(pages_open(&f->p, &f->arena, SEQS, SLOTS, copy, &f->copies, NULL), 0);
    assert_int_equal(f->p.n_pages, SEQS * PAGES);
    for (int q = 0; q < SEQS; q++)
        assert_int_equal(pages_seq_open(&f->p, NULL), q);
}

/* Pages that timelines have, counted once each, are those that are not free; users are right. */
static void check_counts(const struct pages *p)
{
    int users[SEQS * PAGES] = {0}, used = 0;
    for (int q = 0; q < SEQS; q++)
        for (int i = 0; i < p->seq[q].n_pages; i++)
            used += users[p->seq[q].page[i]]++ == 0;
    assert_int_equal(p->n_free, p->n_pages - used);
    for (int i = 0; i < p->n_pages; i++)
        assert_int_equal(p->users[i], users[i]);
}

static void slots_get_pages_and_give_them_back(void **state)
{
    (void)state;
    struct fixture f;
    struct error err = {0};
    open_all(&f);
    assert_int_equal(pages_seq_open(&f.p, &err), ERR_USAGE);
    assert_int_equal(pages_reserve(&f.p, 0, 0, &err), 1);
    assert_int_equal(pages_reserve(&f.p, 0, 255, &err), 0);
    assert_int_equal(pages_reserve(&f.p, 0, 600, &err), 1); /* and all pages before it */
    assert_int_equal(f.p.seq[0].n_pages, 3);
    assert_int_equal(pages_reserve(&f.p, 0, 3 * KV_PAGE, &err), ERR_INTERNAL);
    assert_int_equal(pages_reserve(&f.p, 0, -1, &err), ERR_INTERNAL);
    check_counts(&f.p);
    pages_trim(&f.p, 0, 257);
    assert_int_equal(f.p.seq[0].n_pages, 2);
    pages_trim(&f.p, 0, 256);
    assert_int_equal(f.p.seq[0].n_pages, 1);
    pages_seq_close(&f.p, 0);
    assert_int_equal(f.p.n_free, f.p.n_pages);
    assert_int_equal(pages_seq_open(&f.p, &err), 0);
    check_counts(&f.p);
    arena_free(&f.arena);
}

static void a_shared_page_is_copied_before_it_is_written(void **state)
{
    (void)state;
    struct fixture f;
    struct error err = {0};
    open_all(&f);
    pages_reserve(&f.p, 0, 500, &err);
    assert_int_equal(pages_share(&f.p, 0, 0, 10, &err), ERR_INTERNAL);
    assert_int_equal(pages_share(&f.p, 0, 1, 513, &err), ERR_INTERNAL);
    assert_int_equal(pages_share(&f.p, 0, 1, 300, &err), 0);
    assert_int_equal(f.p.seq[1].n_pages, 2);
    check_counts(&f.p);
    f.copies.rc = ERR_OS; /* a copy that fails leaves the page shared */
    int shared = f.p.seq[1].page[1];
    assert_int_equal(pages_reserve(&f.p, 1, 300, &err), ERR_OS);
    assert_int_equal(f.p.seq[1].page[1], shared);
    f.copies = (struct copies){0};
    assert_int_equal(pages_reserve(&f.p, 1, 300, &err), 1);
    assert_int_equal(f.copies.n, 1);
    assert_int_equal(f.copies.from, shared);
    assert_int_equal(f.copies.to, f.p.seq[1].page[1]);
    assert_int_equal(f.p.seq[0].page[1], shared);
    assert_int_equal(pages_reserve(&f.p, 1, 301, &err), 0);
    check_counts(&f.p);
    arena_free(&f.arena);
}

static void a_full_cache_says_so(void **state)
{
    (void)state;
    struct fixture f;
    struct error err = {0};
    open_all(&f);
    for (int q = 0; q < SEQS; q++)
        assert_int_equal(pages_reserve(&f.p, q, SLOTS - 1, &err), 1);
    f.p.users[f.p.seq[0].page[0]]++; /* as if somebody shared it */
    assert_int_equal(pages_reserve(&f.p, 0, 0, &err), ERR_OS);
    assert_non_null(strstr(err.text, "KV cache is full"));
    arena_free(&f.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_get_pages_and_give_them_back),
        cmocka_unit_test(a_shared_page_is_copied_before_it_is_written),
        cmocka_unit_test(a_full_cache_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
