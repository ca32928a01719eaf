/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of the KV cache: who has which, what a copy holds, and that the plan is what is taken. tests/backend/test_contract.c shows the same through logits. */
#define TEST_DEVICE "cpu"
#include "backend/cpu/cpu.h"
#include "tiny_device.h"

enum { SLOTS = 3 * KV_PAGE, SEQS = 3 };

static void open_kv(struct synthetic *s, bool kv_f32)
{
    struct device_options o = {.kv_f32 = kv_f32, .threads = 1, .n_slots = SLOTS - 100, .n_seqs = SEQS, .n_hidden = 1};
    synthetic_open(s, "tiny-headdim", "bf16", &o);
    for (int q = 0; q < SEQS; q++)
        assert_int_equal(cpu_seq_open(s->kv, NULL), q);
}

static void must_reserve(struct kv *kv, int seq, int slot)
{
    struct error err = {0};
    if (pages_reserve(&kv->pages, seq, slot, &err) < 0)
        fail_with(err.text);
}

/* Pages that timelines have, counted once each, are the ones that are not free; users are right. */
static void check_counts(const struct kv *kv)
{
    int users[SEQS * 3] = {0}, used = 0;
    assert_int_equal(kv->pages.n_pages, SEQS * 3);
    for (int q = 0; q < SEQS; q++)
        for (int i = 0; i < kv->pages.seq[q].n_pages; i++)
            used += users[kv->pages.seq[q].page[i]]++ == 0;
    assert_int_equal(kv->pages.n_free, kv->pages.n_pages - used);
    for (int i = 0; i < kv->pages.n_free; i++)
        assert_int_equal(users[kv->pages.free_page[i]], 0);
    for (int p = 0; p < kv->pages.n_pages; p++)
        assert_int_equal(kv->pages.users[p], users[p]);
}

static uint8_t *page_of(const struct kv *kv, int seq, int i) { return kv->data + (size_t)kv->pages.seq[seq].page[i] * kv->page_bytes; }

static void pages_come_and_go(void **state)
{
    (void)state;
    static const struct {
        int slots, left;
    } trims[] = {{3 * KV_PAGE, 3}, {2 * KV_PAGE + 1, 3}, {2 * KV_PAGE, 2}, {KV_PAGE + 1, 2}, {1, 1}, {0, 0}};
    struct synthetic s;
    struct error err = {0};
    open_kv(&s, false);
    must_reserve(s.kv, 0, 2 * KV_PAGE); /* and the pages before it */
    assert_int_equal(s.kv->pages.seq[0].n_pages, 3);
    must_reserve(s.kv, 0, 0);
    must_reserve(s.kv, 1, KV_PAGE - 1);
    assert_int_equal(s.kv->pages.seq[1].n_pages, 1);
    check_counts(s.kv);
    assert_int_equal(pages_reserve(&s.kv->pages, 0, 3 * KV_PAGE, &err), ERR_INTERNAL);
    assert_int_equal(pages_reserve(&s.kv->pages, 0, -1, &err), ERR_INTERNAL);
    for (size_t i = 0; i < sizeof trims / sizeof *trims; i++) {
        cpu_seq_trim(s.kv, 0, trims[i].slots);
        assert_int_equal(s.kv->pages.seq[0].n_pages, trims[i].left);
        check_counts(s.kv);
    }
    cpu_seq_close(s.kv, 1);
    assert_int_equal(s.kv->pages.n_free, s.kv->pages.n_pages);
    assert_int_equal(cpu_seq_open(s.kv, &err), 1);
    assert_int_equal(cpu_seq_open(s.kv, &err), ERR_USAGE);
    synthetic_close(&s);
}

static void shared_pages_are_counted_and_copied(void **state)
{
    (void)state;
    struct synthetic s;
    struct error err = {0};
    open_kv(&s, false);
    struct kv *kv = s.kv;
    must_reserve(kv, 0, 2 * KV_PAGE);
    must_reserve(kv, 1, 0); /* is given back by sharing */
    for (int i = 0; i < 3; i++)
        memset(page_of(kv, 0, i), 0x11 * (i + 1), kv->page_bytes);
    assert_int_equal(cpu_seq_share(kv, 0, 1, KV_PAGE + 5, &err), 0);
    assert_int_equal(cpu_seq_share(kv, 0, 2, KV_PAGE, &err), 0);
    assert_int_equal(kv->pages.seq[1].n_pages, 2);
    assert_int_equal(kv->pages.seq[2].n_pages, 1);
    assert_int_equal(kv->pages.n_free, kv->pages.n_pages - 3);
    check_counts(kv);
    must_reserve(kv, 1, KV_PAGE + 5); /* timeline 1 is about to write: the second page becomes its own, the first stays shared */
    assert_ptr_equal(page_of(kv, 1, 0), page_of(kv, 0, 0));
    assert_ptr_not_equal(page_of(kv, 1, 1), page_of(kv, 0, 1));
    assert_memory_equal(page_of(kv, 1, 1), page_of(kv, 0, 1), kv->page_bytes);
    check_counts(kv);
    must_reserve(kv, 0, 0); /* the owner writes: it copies too, the others keep theirs */
    assert_ptr_not_equal(page_of(kv, 0, 0), page_of(kv, 1, 0));
    assert_ptr_equal(page_of(kv, 2, 0), page_of(kv, 1, 0));
    uint8_t *own = page_of(kv, 1, 1);
    must_reserve(kv, 1, KV_PAGE + 6); /* nothing to copy any more */
    assert_ptr_equal(page_of(kv, 1, 1), own);
    cpu_seq_close(kv, 0);
    check_counts(kv);
    assert_int_equal(page_of(kv, 2, 0)[kv->page_bytes - 1], 0x11);
    assert_int_equal(cpu_seq_share(kv, 2, 2, 1, &err), ERR_INTERNAL);
    assert_int_equal(cpu_seq_share(kv, 2, 1, KV_PAGE + 1, &err), ERR_INTERNAL); /* more than it has */
    synthetic_close(&s);
}

static void a_full_cache_is_an_error(void **state)
{
    (void)state;
    struct synthetic s;
    struct error err = {0};
    open_kv(&s, false);
    for (int q = 0; q < SEQS; q++)
        must_reserve(s.kv, q, SLOTS - 101);
    assert_int_equal(s.kv->pages.n_free, 0);
    s.kv->pages.users[s.kv->pages.seq[0].page[0]]++; /* as if somebody else had it too */
    assert_int_equal(pages_reserve(&s.kv->pages, 0, 0, &err), ERR_OS);
    assert_non_null(strstr(err.text, "9 pages of 256 tokens"));
    s.kv->pages.users[s.kv->pages.seq[0].page[0]]--;
    check_counts(s.kv);
    synthetic_close(&s);
}

/* ---- kv_move ---- */

/* One element of K or V, by the layout that cpu.h states: K [16][head_dim][16], V [256][pad]. */
static uint8_t *element(const struct kv *kv, int seq, int layer, int head, int slot, int is_v, int d)
{
    size_t hd = (size_t)kv->d->c->head_dim, pad = (size_t)kv->d->head_pad, at = (size_t)(slot % KV_PAGE), e = kv->element;
    uint8_t *base = kv_head(kv, kv->pages.seq[seq].page[slot / KV_PAGE], layer, head);
    return is_v ? base + kv->v_offset + (at * pad + (size_t)d) * e : base + ((at / 16 * hd + (size_t)d) * 16 + at % 16) * e;
}

/* What stands in a slot before anything moves. */
static uint32_t mark(int layer, int head, int slot, int is_v, int d) { return (uint32_t)(((layer * 7 + head) * 2 + is_v) * 40503 + slot * 977 + d * 31); }

static void moved_slots_hold_what_stood_elsewhere(void **state)
{
    (void)state;
    static const int32_t src[] = {KV_PAGE - 5, KV_PAGE - 3, KV_PAGE - 1, KV_PAGE, KV_PAGE + 4, KV_PAGE + 20};
    enum { N = sizeof src / sizeof *src, DST = KV_PAGE - 5, LAST = KV_PAGE + 32 };
    for (int f32 = 0; f32 < 2; f32++) {
        struct synthetic s;
        struct error err = {0};
        open_kv(&s, f32);
        const struct config *c = &s.model.config;
        must_reserve(s.kv, 1, LAST);
        for (int pass = 0; pass < 2; pass++) {
            if (pass)
                assert_int_equal(cpu_kv_move(s.kv, 1, DST, src, N, &err), 0);
            for (int i = 0; i < c->n_layers * c->n_kv_heads * LAST * 2 * c->head_dim; i++) {
                int d = i % c->head_dim, is_v = i / c->head_dim % 2, slot = i / c->head_dim / 2 % LAST, at = i / c->head_dim / 2 / LAST;
                int l = at / c->n_kv_heads, h = at % c->n_kv_heads;
                uint32_t value = mark(l, h, pass && slot >= DST && slot < DST + N ? src[slot - DST] : slot, is_v, d);
                if (!pass)
                    memcpy(element(s.kv, 1, l, h, slot, is_v, d), &value, s.kv->element);
                else if (memcmp(element(s.kv, 1, l, h, slot, is_v, d), &value, s.kv->element))
                    fail_msg("layer %d head %d slot %d %s %d", l, h, slot, is_v ? "v" : "k", d);
            }
        }
        synthetic_close(&s);
    }
}

/* A move inside a shared page leaves the other timeline's as it is. */
static void moving_copies_a_shared_page(void **state)
{
    (void)state;
    static const int32_t src[] = {9};
    struct synthetic s;
    struct error err = {0};
    open_kv(&s, false);
    must_reserve(s.kv, 0, 20);
    uint8_t *before = malloc(s.kv->page_bytes);
    assert_non_null(before);
    for (size_t i = 0; i < s.kv->page_bytes; i++)
        before[i] = page_of(s.kv, 0, 0)[i] = (uint8_t)(i * 7);
    assert_int_equal(cpu_seq_share(s.kv, 0, 1, 20, &err), 0);
    assert_int_equal(cpu_kv_move(s.kv, 1, 3, src, 1, &err), 0);
    assert_memory_equal(page_of(s.kv, 0, 0), before, s.kv->page_bytes);
    assert_memory_not_equal(page_of(s.kv, 1, 0), before, s.kv->page_bytes);
    assert_memory_equal(element(s.kv, 1, 1, 1, 3, 1, 5), element(s.kv, 0, 1, 1, 9, 1, 5), 2);
    check_counts(s.kv);
    free(before);
    synthetic_close(&s);
}

static void the_plan_is_what_is_taken(void **state)
{
    (void)state;
    for (int f32 = 0; f32 < 2; f32++) {
        struct synthetic s;
        open_kv(&s, f32);
        uint64_t kv = cpu_kv_bytes(&s.model.config, &s.o), scratch = cpu_scratch_bytes(&s.model.config, &s.o, 1);
        assert_int_equal(kv, (uint64_t)s.kv->pages.n_pages * s.kv->page_bytes);
        assert_int_equal(s.kv->page_bytes, (size_t)(f32 ? 4 : 2) * KV_PAGE * (32 + 32) * 2 * 4); /* K and V of 2 heads in 4 layers */
        assert_true(s.kv->arena.used >= scratch && s.kv->arena.used < scratch + 4096); /* and page tables, rounded up */
        synthetic_close(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_come_and_go),
        cmocka_unit_test(shared_pages_are_counted_and_copied),
        cmocka_unit_test(a_full_cache_is_an_error),
        cmocka_unit_test(moved_slots_hold_what_stood_elsewhere),
        cmocka_unit_test(moving_copies_a_shared_page),
        cmocka_unit_test(the_plan_is_what_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, synthetic_cleanup);
}
