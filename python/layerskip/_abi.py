# SPDX-License-Identifier: Apache-2.0
"""The C interface. Made by `scripts/api.py python` from include/layerskip.h: change that."""
from __future__ import annotations

from ctypes import CFUNCTYPE, POINTER, Structure, c_char, c_char_p, c_double, c_float, c_int, c_int32, c_int64, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from enum import IntEnum
from typing import NamedTuple, Sequence, TypedDict

VERSION = "0.1.0"  # of the header

class Status(IntEnum):
    EUSAGE = -64
    EDATA = -65
    ENOINPUT = -66
    EUNAVAILABLE = -69
    EINTERNAL = -70
    EOS = -71
    ECREATE = -73
    EIO = -74
    ECONFIG = -78


class lsk_error(Structure):
    _fields_ = [
        ("code", c_int),
        ("text", c_char * 508),
    ]


lsk_progress_fn = CFUNCTYPE(c_int, c_void_p, c_char_p, c_uint64, c_uint64)


LSK_LOAD_ALL = 0
LSK_LOAD_TOKENIZER = 1
LSK_LOAD_PLAN = 2


LSK_FEW_DRAFTS = 15
LSK_MAX_DRAFTS = 32


class lsk_profile(Structure):
    _fields_ = [
        ("exit_layer", c_int),
        ("num_speculations", c_int),
    ]


class lsk_model_options(Structure):
    _fields_ = [
        ("device", c_char_p),
        ("weights", c_char_p),
        ("kv", c_char_p),
        ("compute", c_char_p),
        ("kernels", c_char_p),
        ("threads", c_int),
        ("context", c_int),
        ("sessions", c_int),
        ("batch", c_int),
        ("max_drafts", c_int),
        ("draft_head", c_int),
        ("profile", POINTER(lsk_profile)),
        ("load", c_int),
        ("ignore_config", POINTER(c_char_p)),
        ("progress", lsk_progress_fn),
        ("progress_ud", c_void_p),
        ("reserved", c_uint64 * 8),
    ]


class ModelOptions(TypedDict, total=False):
    device: str
    weights: str
    kv: str
    compute: str
    kernels: str
    threads: int
    context: int
    sessions: int
    batch: int
    max_drafts: int
    draft_head: int
    profile: tuple[float, ...]
    load: int
    ignore_config: Sequence[str]


class lsk_memory(Structure):
    _fields_ = [
        ("weights", c_uint64),
        ("kv", c_uint64),
        ("scratch", c_uint64),
        ("drafts", c_uint64),
    ]


class Memory(NamedTuple):
    weights: int
    kv: int
    scratch: int
    drafts: int


class lsk_model_info(Structure):
    _fields_ = [
        ("id", c_char * 17),
        ("path", c_char_p),
        ("format", c_char_p),
        ("family", c_char_p),
        ("name", c_char_p),
        ("file_type", c_char_p),
        ("weight_type", c_char_p),
        ("kv_type", c_char_p),
        ("compute", c_char_p),
        ("device", c_char_p),
        ("kernels", c_char_p),
        ("tokenizer", c_char_p),
        ("rope", c_char_p),
        ("device_note", c_char_p),
        ("n_layers", c_int),
        ("hidden", c_int),
        ("ffn", c_int),
        ("n_heads", c_int),
        ("n_kv_heads", c_int),
        ("head_dim", c_int),
        ("n_vocab", c_int),
        ("context_max", c_int),
        ("context", c_int),
        ("batch", c_int),
        ("threads", c_int),
        ("tied", c_int),
        ("rope_theta", c_double),
        ("norm_eps", c_double),
        ("n_params", c_uint64),
        ("file_bytes", c_uint64),
        ("layer_bytes", c_uint64),
        ("head_bytes", c_uint64),
        ("pass_bytes", c_uint64),
        ("memory", lsk_memory),
        ("bos", c_int32),
        ("n_eos", c_int),
        ("eos", c_int32 * 16),
        ("n_kept", c_int),
        ("kept_type", c_char_p),
        ("draft_tokens", c_int),
        ("draft_head", c_int),
        ("draft_head_bytes", c_uint64),
        ("exit_layer", c_int),
        ("num_speculations", c_int),
        ("temperature", c_float),
        ("top_p", c_float),
        ("min_p", c_float),
        ("top_k", c_int),
        ("unused_advice", c_char_p),
        ("has_chat_template", c_int),
        ("ignored", c_char_p),
        ("load_ns", c_int64),
    ]


class ModelInfo(NamedTuple):
    id: str
    path: str
    format: str
    family: str
    name: str
    file_type: str
    weight_type: str
    kv_type: str
    compute: str
    device: str
    kernels: str
    tokenizer: str
    rope: str
    device_note: str
    n_layers: int
    hidden: int
    ffn: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vocab: int
    context_max: int
    context: int
    batch: int
    threads: int
    tied: int
    rope_theta: float
    norm_eps: float
    n_params: int
    file_bytes: int
    layer_bytes: int
    head_bytes: int
    pass_bytes: int
    memory: Memory
    bos: int
    eos: Sequence[int]
    n_kept: int
    kept_type: str
    draft_tokens: int
    draft_head: int
    draft_head_bytes: int
    exit_layer: int
    num_speculations: int
    temperature: float
    top_p: float
    min_p: float
    top_k: int
    unused_advice: str
    has_chat_template: int
    ignored: str
    load_ns: int


LSK_ENCODE_BOS = 1
LSK_ENCODE_SPECIAL = 2
LSK_ENCODE_REPLACE = 4


class lsk_chat_options(Structure):
    _fields_ = [
        ("template_name", c_char_p),
        ("template_text", c_char_p),
        ("tools", c_char_p),
        ("variables", c_char_p),
        ("no_reply", c_int),
        ("now", c_int64),
        ("reserved", c_uint64 * 8),
    ]


class ChatOptions(TypedDict, total=False):
    template_name: str
    template_text: str
    tools: str
    variables: str
    no_reply: int
    now: int


class lsk_chat(Structure):
    _fields_ = [
        ("text", c_void_p),
        ("n_text", c_size_t),
        ("tokens", POINTER(c_int32)),
        ("n_tokens", c_int),
        ("end", c_int32),
    ]


class lsk_logit_bias(Structure):
    _fields_ = [
        ("token", c_int32),
        ("bias", c_float),
    ]


class lsk_logprob(Structure):
    _fields_ = [
        ("token", c_int32),
        ("logprob", c_float),
    ]


class lsk_generate_options(Structure):
    _fields_ = [
        ("drafter", c_char_p),
        ("exit_layer", c_int),
        ("num_speculations", c_int),
        ("draft_min_conf", c_float),
        ("depth", c_int),
        ("temperature", c_float),
        ("top_k", c_int),
        ("top_p", c_float),
        ("min_p", c_float),
        ("seed", c_uint64),
        ("choice", c_uint32),
        ("max_tokens", c_int),
        ("ignore_eos", c_int),
        ("eos", POINTER(c_int32)),
        ("n_eos", c_int),
        ("stop", POINTER(c_char_p)),
        ("n_stop", c_int),
        ("show_special", c_int),
        ("logit_bias", POINTER(lsk_logit_bias)),
        ("n_logit_bias", c_int),
        ("repeat_penalty", c_float),
        ("presence_penalty", c_float),
        ("frequency_penalty", c_float),
        ("repeat_last_n", c_int),
        ("n_probs", c_int),
        ("grammar", c_char_p),
        ("json_schema", c_char_p),
        ("reserved", c_uint64 * 10),
    ]


class GenerateOptions(TypedDict, total=False):
    drafter: str
    exit_layer: int
    num_speculations: int
    draft_min_conf: float
    depth: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    choice: int
    max_tokens: int
    ignore_eos: int
    eos: Sequence[int]
    stop: Sequence[str]
    show_special: int
    logit_bias: Sequence[tuple[float, ...]]
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    repeat_last_n: int
    n_probs: int
    grammar: str
    json_schema: str


class Finish(IntEnum):
    RUNNING = 0
    EOS = 1
    STOP = 2
    LENGTH = 3
    CONTEXT = 4
    CANCELLED = 5
    ERROR = 6


class lsk_event(Structure):
    _fields_ = [
        ("session", c_int),
        ("token", c_int32),
        ("drafted", c_int),
        ("logprob", c_float),
        ("text", c_void_p),
        ("n_text", c_size_t),
        ("finish", c_int),
        ("error", c_char_p),
        ("n_top", c_int),
        ("top", POINTER(lsk_logprob)),
    ]


class lsk_stats(Structure):
    _fields_ = [
        ("prompt_tokens", c_int),
        ("cached_tokens", c_int),
        ("reply_tokens", c_int),
        ("prompt_done", c_int),
        ("prompt_ns", c_int64),
        ("reply_ns", c_int64),
        ("rounds", c_int),
        ("drafted", c_int),
        ("accepted", c_int),
        ("drafted_at", c_int * LSK_MAX_DRAFTS),
        ("accepted_at", c_int * LSK_MAX_DRAFTS),
        ("reply_bytes", c_uint64),
        ("waits", c_uint64),
        ("depth", c_int),
        ("exit_layer", c_int),
        ("num_speculations", c_int),
        ("temperature", c_float),
        ("seed", c_uint64),
        ("reserved", c_uint64 * 8),
    ]


class Stats(NamedTuple):
    prompt_tokens: int
    cached_tokens: int
    reply_tokens: int
    prompt_done: int
    prompt_ns: int
    reply_ns: int
    rounds: int
    drafted: int
    accepted: int
    drafted_at: Sequence[int]
    accepted_at: Sequence[int]
    reply_bytes: int
    waits: int
    depth: int
    exit_layer: int
    num_speculations: int
    temperature: float
    seed: int


lsk_emit_fn = CFUNCTYPE(c_int, c_void_p, POINTER(lsk_event))


lsk_logits_fn = CFUNCTYPE(c_int, c_void_p, c_int, POINTER(c_float), c_int)


lsk_exit_logits_fn = CFUNCTYPE(c_int, c_void_p, c_int, c_int, POINTER(c_float), c_int)


class lsk_synth_options(Structure):
    _fields_ = [
        ("shape", c_char_p),
        ("seed", c_uint64),
        ("tie", c_int),
        ("layers", c_int),
        ("dtype", c_char_p),
        ("shard_bytes", c_uint64),
        ("threads", c_int),
        ("progress", lsk_progress_fn),
        ("progress_ud", c_void_p),
        ("reserved", c_uint64 * 8),
    ]


class SynthOptions(TypedDict, total=False):
    shape: str
    seed: int
    tie: int
    layers: int
    dtype: str
    shard_bytes: int
    threads: int


class lsk_quantize_row(Structure):
    _fields_ = [
        ("kind", c_char_p),
        ("from", c_char_p),
        ("to", c_char_p),
        ("tensors", c_int),
        ("values", c_uint64),
        ("bytes_before", c_uint64),
        ("bytes_after", c_uint64),
        ("rms_error", c_double),
        ("max_error", c_double),
    ]


class lsk_quantize_options(Structure):
    _fields_ = [
        ("type", c_char_p),
        ("embed_type", c_char_p),
        ("output_type", c_char_p),
        ("pure", c_int),
        ("allow_requantize", c_int),
        ("force", c_int),
        ("dry_run", c_int),
        ("profile", lsk_profile),
        ("draft_text", c_char_p),
        ("draft_tokens", c_int),
        ("part_bytes", c_uint64),
        ("threads", c_int),
        ("ignore_config", POINTER(c_char_p)),
        ("progress", lsk_progress_fn),
        ("progress_ud", c_void_p),
        ("row", CFUNCTYPE(None, c_void_p, POINTER(lsk_quantize_row))),
        ("note", CFUNCTYPE(None, c_void_p, c_char_p)),
        ("report_ud", c_void_p),
        ("reserved", c_uint64 * 8),
    ]


class lsk_train_options(Structure):
    _fields_ = [
        ("recipe", c_char_p),
        ("start", c_char_p),
        ("folder", c_char_p),
        ("data", POINTER(c_char_p)),
        ("weights", POINTER(c_double)),
        ("device", c_char_p),
        ("document_end", c_char_p),
        ("special", c_int),
        ("learn_prompts", c_int),
        ("bad_rows", c_int),
        ("steps", c_int),
        ("batch", c_int),
        ("accumulate", c_int),
        ("length", c_int),
        ("seed", c_uint64),
        ("rate", c_double),
        ("layer_dropout", c_double),
        ("exit_scale", c_double),
        ("anchor", c_double),
        ("warmup", c_double),
        ("floor", c_double),
        ("beta1", c_double),
        ("beta2", c_double),
        ("eps", c_double),
        ("decay", c_double),
        ("clip", c_double),
        ("held_out", c_double),
        ("exits", POINTER(c_int)),
        ("n_exits", c_int),
        ("look_every", c_int),
        ("look_blocks", c_int),
        ("save_every", c_int),
        ("keep", c_int),
        ("resume", c_int),
        ("fit", c_char_p),
        ("recompute", c_int),
        ("threads", c_int),
        ("ignore_config", POINTER(c_char_p)),
        ("progress", lsk_progress_fn),
        ("progress_ud", c_void_p),
        ("reserved", c_uint64 * 8),
    ]


LSK_TRAIN_STARTED = 0
LSK_TRAIN_STEPPED = 1
LSK_TRAIN_LOOKED = 2
LSK_TRAIN_SAVED = 3
LSK_TRAIN_NOTE = 4


class lsk_train_point(Structure):
    _fields_ = [
        ("layer", c_int),
        ("ce", c_double),
        ("kl", c_double),
        ("accept", c_double),
        ("anchor", c_double),
        ("agree", c_double),
    ]


class lsk_train_event(Structure):
    _fields_ = [
        ("kind", c_int),
        ("step", c_int),
        ("steps", c_int),
        ("tokens", c_uint64),
        ("loss", c_double),
        ("rate", c_double),
        ("norm", c_double),
        ("speed", c_double),
        ("flops", c_double),
        ("left", c_double),
        ("n", c_int),
        ("point", POINTER(lsk_train_point)),
        ("text", c_char_p),
        ("memory", c_uint64),
        ("blocks", c_uint64),
        ("held", c_uint64),
    ]


lsk_train_fn = CFUNCTYPE(c_int, c_void_p, POINTER(lsk_train_event))


# name: (result, arguments)
FUNCTIONS = {
    "lsk_version": (c_char_p, []),
    "lsk_model_open": (c_void_p, [c_char_p, POINTER(lsk_model_options), POINTER(lsk_error)]),
    "lsk_model_close": (None, [c_void_p]),
    "lsk_model_load": (c_int, [c_void_p, POINTER(lsk_model_options), POINTER(lsk_error)]),
    "lsk_model_about": (POINTER(lsk_model_info), [c_void_p]),
    "lsk_model_tensor": (c_int, [c_void_p, c_int, c_char_p, c_size_t]),
    "lsk_model_check": (c_int, [c_void_p, lsk_progress_fn, CFUNCTYPE(c_int, c_void_p, c_char_p), c_void_p, POINTER(lsk_error)]),
    "lsk_encode": (c_int, [c_void_p, c_char_p, c_size_t, c_uint, POINTER(c_int32), c_int, POINTER(lsk_error)]),
    "lsk_piece": (c_void_p, [c_void_p, c_int32, POINTER(c_size_t)]),
    "lsk_chat_render": (POINTER(lsk_chat), [c_void_p, c_char_p, POINTER(lsk_chat_options), POINTER(lsk_error)]),
    "lsk_chat_free": (None, [POINTER(lsk_chat)]),
    "lsk_session_open": (c_void_p, [c_void_p, POINTER(lsk_error)]),
    "lsk_session_close": (None, [c_void_p]),
    "lsk_options_check": (c_int, [c_void_p, POINTER(lsk_generate_options), POINTER(lsk_error)]),
    "lsk_session_prompt": (c_int, [c_void_p, POINTER(c_int32), c_int, POINTER(lsk_generate_options), POINTER(lsk_error)]),
    "lsk_step": (c_int, [POINTER(c_void_p), c_int, lsk_emit_fn, c_void_p, POINTER(lsk_error)]),
    "lsk_generate": (c_int, [c_void_p, POINTER(c_int32), c_int, POINTER(lsk_generate_options), lsk_emit_fn, c_void_p, POINTER(lsk_stats), POINTER(lsk_error)]),
    "lsk_session_stats": (POINTER(lsk_stats), [c_void_p]),
    "lsk_score": (c_int, [c_void_p, POINTER(c_int32), c_int, c_int, lsk_logits_fn, c_void_p, POINTER(lsk_error)]),
    "lsk_score_exits": (c_int, [c_void_p, POINTER(c_int32), c_int, c_int, POINTER(c_int), c_int, lsk_exit_logits_fn, c_void_p, POINTER(lsk_error)]),
    "lsk_drafter": (c_char_p, [c_int, POINTER(c_char_p)]),
    "lsk_shape": (c_char_p, [c_int, POINTER(c_char_p)]),
    "lsk_chat_template": (c_char_p, [c_int, POINTER(c_char_p)]),
    "lsk_synth": (c_int, [c_char_p, POINTER(lsk_synth_options), POINTER(lsk_error)]),
    "lsk_quantize": (c_int, [c_char_p, c_char_p, POINTER(lsk_quantize_options), POINTER(lsk_error)]),
    "lsk_measure_read": (c_double, [c_uint64, c_int, POINTER(lsk_error)]),
    "lsk_train": (c_int, [c_char_p, POINTER(lsk_train_options), lsk_train_fn, c_void_p, POINTER(lsk_error)]),
    "lsk_recipe": (c_char_p, [c_int, POINTER(c_char_p)]),
}
