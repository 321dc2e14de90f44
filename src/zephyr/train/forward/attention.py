"""Attention of several texts in one flat row: each sees itself alone, and pairs of texts may share a beginning.

A row is laid out as leads, one after another, and then rests, one for each lead, or none at all. A lead attends to
itself causally. A rest continues the first `shared` tokens of its lead: it attends to them and, causally, to itself.
Documents are leads without rests. Of a preference pair the lead is prompt and chosen, the rest is rejected, and the
prompt is shared: it is computed once.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from zephyr.errors import ModelError

NAME = "zephyr"
SHARED = ("mistral", "llama", "qwen2", "qwen3", "gemma", "gemma3_text", "olmo2", "phi3", "smollm3")
"""Architectures whose results here were compared with transformers' own attention (tests/unit/test_dpo_forward.py)."""


def fits(config: Any, longest: int) -> str | None:
    """None if the architecture's attention can be computed so for texts of up to `longest` tokens, else the reason."""
    config = config.get_text_config()
    if config.model_type not in SHARED:
        return f"attention of {config.model_type} models was not compared with transformers' own"
    if any(getattr(config, name, None) is not None for name in ("attn_logit_softcapping", "final_logit_softcapping")):
        return f"this {config.model_type} model caps its logits"
    window = getattr(config, "sliding_window", None)
    if window is not None and window < longest:
        return f"the model's attention window of {window} tokens is shorter than the longest text of {longest}"
    return None


def check(config: Any, longest: int, stage: str) -> None:
    """Raises ModelError if a text of `longest` tokens, of the recipe's section `stage`, is too long for the model.

    That is beyond its positions, or where its rotary embeddings depend on the longest text of a batch: what a text
    gives would change with its neighbours, padded or not.
    """
    config = config.get_text_config()
    known = getattr(config, "max_position_embeddings", None) or longest
    ropes = getattr(config, "rope_parameters", None) or {"rope_type": "default"}
    for rope in [ropes] if "rope_type" in ropes else ropes.values():  # or one for each kind of layer
        kind, first = rope["rope_type"], rope.get("original_max_position_embeddings") or known
        changes = kind in ("dynamic", "longrope")
        limit = min(known, first) if changes else max(known, int(first * (rope.get("factor") or 1)))
        if longest > limit:
            what = f"the model's {limit} positions"
            if changes:
                what = (
                    f"{limit}, where the model's rotary embeddings ({kind}) begin to depend on a batch's longest text"
                )
            raise ModelError(f"{stage}: a text of {longest} tokens is longer than {what}; lower {stage}.max_length")


def documents(ids: Sequence[np.ndarray]) -> dict[str, Any]:
    """A model's arguments for texts that don't see each other: input_ids and position_ids [1, T], segments."""
    sizes = [len(text) for text in ids]
    return {
        "input_ids": torch.from_numpy(np.concatenate(ids).astype(np.int64))[None],
        "position_ids": torch.from_numpy(np.concatenate([np.arange(size) for size in sizes]))[None],
        "segments": segments(sizes),
    }


def segments(leads: Sequence[int], shared: Sequence[int] = (), rests: Sequence[int] = ()) -> dict[str, Any]:
    """The layout of a row from the lengths of its leads and, one for each, of what is shared and of the rests."""
    starts = _ends(leads)[:-1]
    ends = sum(leads) + _ends(rests)
    seen = [
        part
        for start, common, end, rest in zip(starts, shared, ends[1:], rests, strict=False)
        for part in (np.arange(start, start + common), np.arange(end - rest, end))
    ]
    return {
        "leads": list(leads),
        "shared": list(shared),
        "rests": list(rests),
        "lead_ends": torch.from_numpy(_ends(leads)),
        "rest_ends": torch.from_numpy(_ends(rests)),
        "seen": torch.from_numpy(np.concatenate(seen) if seen else np.zeros(0, np.int64)),
        "seen_ends": torch.from_numpy(_ends([a + b for a, b in zip(shared, rests, strict=True)])),
    }


def _ends(sizes: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *sizes], dtype=np.int32)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: dict[str, Any] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers' models call: query [1, heads, T, d], key and value [1, key-value heads, T, d].

    Returns [1, T, heads, d].
    """
    if segments is None:
        raise ValueError('attention "zephyr" is for training on flat rows; load the model with "sdpa" for other uses')
    query, key = query.to(value.dtype), key.to(value.dtype)  # norms of queries and keys leave autocast's type
    if not dropout and _has_kernels(value.device, value.dtype):
        return _flash(query, key, value, scaling, segments), None
    options = {"scale": scaling, "dropout_p": dropout, "enable_gqa": query.shape[1] != key.shape[1]}
    return _each(query, key, value, options, segments), None


def _each(query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any], segments: dict[str, Any]) -> Tensor:
    """One call for each segment; on the CPU these are flash kernels with grouped heads, forward and backward."""
    leads, shared, rests = segments["leads"], segments["shared"], segments["rests"]
    # split, not slices: the gradient of a slice is a whole row of zeros
    queries, keys, values = (whole.split([*leads, *rests], dim=2) for whole in (query, key, value))
    found = [
        scaled_dot_product_attention(q, k, v, is_causal=True, **options)
        for q, k, v in zip(queries[: len(leads)], keys, values, strict=False)
    ]
    mask = _later(max(shared), max(rests), query.dtype, query.device) if rests else None
    for i, (common, rest) in enumerate(zip(shared, rests, strict=True)):
        j = len(leads) + i
        k, v = (torch.cat((whole[i][:, :, :common], whole[j]), dim=2) for whole in (keys, values))
        start = max(shared) - common
        view = cast(Tensor, mask)[:rest, start : start + common + rest]
        found.append(scaled_dot_product_attention(queries[j], k, v, attn_mask=view, **options))
    return torch.cat([one.transpose(1, 2) for one in found], dim=1)


@lru_cache(maxsize=1)  # for all layers of a forward
def _later(shared: int, rest: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf where a rest's token would see a later one; each pair's own mask is a view of this one."""
    return torch.full((rest, shared + rest), -torch.inf, dtype=dtype, device=device).triu(shared + 1)


@lru_cache
def _has_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """FlashAttention of variable lengths: from Ampere on, in half precision."""
    half = dtype in (torch.bfloat16, torch.float16)
    return half and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def _flash(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, segments: dict[str, Any]) -> Tensor:
    """Two variable-length calls, causal from the bottom right: leads on themselves, rests on what they see.

    Not run on a GPU yet.
    """
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (whole[0].transpose(0, 1) for whole in (query, key, value))  # [T, heads, d]
    options: dict[str, Any] = {"scale": scaling, "window_size": (-1, 0), "enable_gqa": q.shape[1] != k.shape[1]}
    leads, rests, ends = segments["leads"], segments["rests"], segments["lead_ends"]
    total, longest = sum(leads), max(leads)
    found = [varlen_attn(q[:total], k[:total], v[:total], ends, ends, longest, longest, **options)]
    if rests:
        seen, sees = segments["seen"], max(a + b for a, b in zip(segments["shared"], rests, strict=True))
        ends = segments["rest_ends"], segments["seen_ends"]
        found.append(varlen_attn(q[total:], k[seen], v[seen], *ends, max(rests), sees, **options))
    return torch.cat(found)[None]


AttentionInterface.register(NAME, attend)
