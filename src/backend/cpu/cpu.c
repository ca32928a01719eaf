/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU backend: kernels are chosen when it opens, and must agree in every bit with the plain ones before they are used. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/trainer.h"

static void close_device(struct device *d)
{
    if (!d)
        return;
    pool_close(d->pool);
    if (d->weights)
        munmap(d->weights, d->weights_bytes);
    arena_free(&d->arena);
    free(d);
}

int cpu_find_kernels(const char *name, const struct kernels **kernels, const struct ops **ops, struct error *err)
{
    name = name && strcmp(name, "auto") ? name : NULL;
    *kernels = kernels_pick(name);
    *ops = ops_pick(name);
    if (!*kernels || !*ops)
        return fail(err, ERR_USAGE, "kernels \"%s\": not built in, or this CPU lacks their instructions; use auto or plain", name);
    return 0;
}

static int choose_kernels(struct device *d, struct error *err)
{
    int rc = cpu_find_kernels(d->o.kernels, &d->kernels, &d->ops, err);
    if (rc)
        return rc;
    const char *bad = kernels_differ(d->kernels);
    bad = bad ? bad : ops_differ(d->ops);
    if (bad)
        return fail(err, ERR_INTERNAL, "kernels \"%s\" fail their self-test for %s on this CPU; use --kernels plain and report it", d->kernels->name, bad);
    return 0;
}

static void set_sizes(struct device *d)
{
    const struct config *c = d->c;
    d->hidden_pad = pad16(c->hidden);
    d->ffn_pad = pad16(c->ffn);
    d->head_pad = pad16(c->head_dim);
    d->q_dim = c->n_heads * c->head_dim;
    d->kv_dim = c->n_kv_heads * c->head_dim;
}

static struct device *open_device(const struct model *m, const struct device_options *o, struct error *err)
{
    struct device *d = calloc(1, sizeof *d);
    if (!d) {
        fail(err, ERR_OS, "out of memory");
        return NULL;
    }
    d->model = m;
    d->c = &m->config;
    d->o = *o;
    set_sizes(d);
    if (choose_kernels(d, err) || !(d->pool = pool_open(o->threads, err)) || cpu_load(d, err)) {
        close_device(d);
        return NULL;
    }
    return d;
}

static uint64_t bytes_read(const struct kv *kv) { return kv->bytes_read; }

const struct backend backend_cpu = {
    .name = "cpu",
    .plan = cpu_plan,
    .open = open_device,
    .close = close_device,
    .kv_open = cpu_kv_open,
    .kv_close = cpu_kv_close,
    .seq_open = cpu_seq_open,
    .seq_close = cpu_seq_close,
    .seq_trim = cpu_seq_trim,
    .seq_share = cpu_seq_share,
    .kv_move = cpu_kv_move,
    .forward = cpu_forward,
    .pick = cpu_pick,
    .logits = cpu_logits,
    .bytes_read = bytes_read,
    .train = &cpu_train,
};
