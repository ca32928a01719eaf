/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend: one GPU of compute capability 8.0 or later. */
#include "backend/cuda/cuda.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/trainer.h"
#include "backend/plugin.h"

/* ---- errors ---- */

static atomic_long calls, fail_at = -1;

bool cuda_fault(void)
{
    long call = atomic_fetch_add(&calls, 1), at = atomic_load(&fail_at);
    return at >= 0 && call == at;
}

void cuda_fail_at(long call) { atomic_store(&fail_at, call < 0 ? -1 : atomic_load(&calls) + call); }

long cuda_calls(void) { return atomic_load(&calls); }

/* Without any driver the runtime calls it too old. */
static const char *why_none(cudaError_t e)
{
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess && !version ? "there is no NVIDIA driver" : e == cudaErrorInsufficientDriver ? "the NVIDIA driver is older than the CUDA that the plugin was built with" : cudaGetErrorString(e);
}

int cuda_error(struct error *err, cudaError_t e, const char *call)
{
    int name = 0;
    while (call[name] && call[name] != '(')
        name++;
    cudaGetLastError(); /* what failed is told here; the next call starts clean */
    if (e == cudaErrorMemoryAllocation && !strncmp(call, "cudaHostAlloc", 13))
        return fail(err, ERR_OS, "out of memory of the machine that the GPU can read directly (%.*s); close other programs or lower --threads", name, call);
    if (e == cudaErrorMemoryAllocation)
        return fail(err, ERR_OS, "the GPU is out of memory (%.*s); --weights q8, a smaller --ctx-size or fewer sessions need less", name, call);
    if (e == cudaErrorNoDevice || e == cudaErrorInsufficientDriver || e == cudaErrorStubLibrary || e == cudaErrorInvalidDevice)
        return fail(err, ERR_UNAVAILABLE, "no NVIDIA GPU can be used here: %s; --device cpu needs none", why_none(e));
    return fail(err, ERR_UNAVAILABLE, "the GPU failed in %.*s: %s (%s)", name, call, cudaGetErrorString(e), cudaGetErrorName(e));
}

/* ---- memory ---- */

void *cuda_take(struct cuda_memory *m, uint64_t bytes, bool zero, const char *what, struct error *err)
{
    size_t available = 0, all = 0;
    void *p = NULL;
    bytes = (bytes + 255) / 256 * 256;
    if (m->n == (int)(sizeof m->block / sizeof *m->block)) {
        fail(err, ERR_INTERNAL, "more than %d blocks of GPU memory", m->n);
        return NULL;
    }
    if (CUDA_TRY(err, cudaMemGetInfo(&available, &all)))
        return NULL;
    cudaError_t e = bytes > available ? cudaErrorMemoryAllocation : cuda_fault() ? cudaErrorUnknown : cudaMalloc(&p, bytes ? bytes : 256);
    if (e != cudaSuccess && e != cudaErrorMemoryAllocation) {
        cuda_error(err, e, "cudaMalloc");
        return NULL;
    }
    if (e != cudaSuccess) {
        cudaGetLastError();
        fail(err, ERR_OS, "the GPU is out of memory: %s needs %.2f GiB, %.2f of %.2f GiB are free; --weights q8, a smaller --ctx-size or fewer sessions need less", what,
             (double)bytes / 1073741824.0, (double)available / 1073741824.0, (double)all / 1073741824.0);
        return NULL;
    }
    m->block[m->n++] = p;
    m->bytes += bytes;
    if (zero && (CUDA_TRY(err, cudaMemset(p, 0, bytes)) || CUDA_TRY(err, cudaDeviceSynchronize()))) /* no other stream may come before it */
        return NULL;
    return p;
}

void cuda_give_back(struct cuda_memory *m)
{
    for (int i = 0; i < m->n; i++)
        cudaFree(m->block[i]);
    *m = (struct cuda_memory){0};
}

/* ---- devices ---- */

int cuda_usable(int ordinal, struct error *err)
{
    int n = 0, major = 0;
    int rc = CUDA_TRY(err, cudaGetDeviceCount(&n));
    if (!rc && ordinal >= n)
        rc = fail(err, ERR_UNAVAILABLE, "device cuda:%d: this machine has %d NVIDIA GPU%s", ordinal, n, n == 1 ? "" : "s");
    if (!rc)
        rc = CUDA_TRY(err, cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal));
    if (!rc && major < 8)
        rc = fail(err, ERR_UNAVAILABLE, "device cuda:%d has compute capability %d.x; 8.0 (A100, RTX 30) or later is needed", ordinal, major);
    return rc;
}

static void close_device(struct device *d)
{
    if (!d)
        return;
    cudaSetDevice(d->ordinal);
    if (d->stream)
        cudaStreamDestroy(d->stream);
    cuda_give_back(&d->memory);
    arena_free(&d->arena);
    free(d);
}

/* Memory fails here or never: everything that open and kv_open will take, against what is free. */
static int check_memory(const struct device *d, struct error *err)
{
    struct device_plan plan;
    size_t available, all;
    int rc = cuda_plan(d->model, &d->o, &plan, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaMemGetInfo(&available, &all));
    uint64_t need = rc ? 0 : plan.weights + plan.kv + plan.scratch;
    if (!rc && need > available)
        rc = fail(err, ERR_OS, "the GPU has too little memory: %.2f GiB are needed (weights %.2f, KV cache %.2f, activations %.2f), %.2f of %.2f GiB are free; "
                  "--weights q8, a smaller --ctx-size or fewer sessions need less", (double)need / 1073741824.0, (double)plan.weights / 1073741824.0,
                  (double)plan.kv / 1073741824.0, (double)plan.scratch / 1073741824.0, (double)available / 1073741824.0, (double)all / 1073741824.0);
    return rc;
}

static void set_sizes(struct device *d)
{
    const struct config *c = d->c;
    d->state_stride = (c->hidden + 15) / 16 * 16;
    d->n_square = d->state_stride / 16;
    d->head_pad = (c->head_dim + 7) / 8 * 8;
    d->x_f32 = d->o.wide;
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
    d->ordinal = o->ordinal;
    set_sizes(d);
    int rc = cuda_usable(o->ordinal, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaSetDevice(d->ordinal));
    if (!rc)
        rc = CUDA_TRY(err, cudaGetDeviceProperties(&d->prop, d->ordinal));
    if (!rc)
        rc = check_memory(d, err);
    if (!rc)
        rc = CUDA_TRY(err, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
    if (!rc)
        rc = CUDA_TRY(err, cuda_product_prepare());
    if (!rc)
        rc = cuda_load(d, err);
    if (!rc)
        return d;
    close_device(d);
    return NULL;
}

static int seq_open(struct kv *kv, struct error *err) { return pages_seq_open(&kv->pages, err); }
static void seq_close(struct kv *kv, int seq) { pages_seq_close(&kv->pages, seq); }
static void seq_trim(struct kv *kv, int seq, int n_slots) { pages_trim(&kv->pages, seq, n_slots); }
static uint64_t bytes_read(const struct kv *kv) { return kv->bytes_read; }
static uint64_t waits(const struct kv *kv) { return kv->waits; }

static const struct backend backend_cuda = {
    .name = "cuda",
    .plan = cuda_plan,
    .open = open_device,
    .close = close_device,
    .kv_open = cuda_kv_open,
    .kv_close = cuda_kv_close,
    .seq_open = seq_open,
    .seq_close = seq_close,
    .seq_trim = seq_trim,
    .seq_share = cuda_seq_share,
    .kv_move = cuda_kv_move,
    .forward = cuda_forward,
    .prefill = cuda_prefill,
    .pick = cuda_pick,
    .draft = cuda_draft,
    .logits = cuda_logits,
    .bytes_read = bytes_read,
    .waits = waits,
    .train = &cuda_train,
};

__attribute__((visibility("default"))) const struct plugin lsk_plugin = {.build = PLUGIN_BUILD, .sizes = PLUGIN_SIZES, .backend = &backend_cuda, .usable = cuda_usable};
