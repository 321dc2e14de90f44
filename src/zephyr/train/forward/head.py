"""The last matrix of a language model, on the positions that are scored only, a chunk of them at a time.

A chunk's gradient with respect to the logits is kept for the backward pass while all that are kept fit into `KEPT`: so
the largest of the matrix products isn't done twice. A frozen head (LoRA) keeps none: the forward computes what the
backward will scale.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import maybe_gather_lm_head_ctx  # ZeRO-3 cuts the weight up

KEPT = 2**29
"""Bytes."""
CHUNK = {"cpu": 2**20, "cuda": 2**25}
"""Logits in memory at a time: on a CPU what its cache holds."""


def install(model: Any) -> None:
    """Give a causal language model a second way to be called: `model(..., at=, targets=)`.

    `at` [n] are positions of the flattened row, `targets` [n] the tokens that follow them; the result is their
    log-probabilities [n] in float32. To be called before a trainer or PEFT wraps the model: through any wrapper the
    forward is one forward, so what cuts weights up or gathers gradients goes its usual way.
    """
    forward = model.forward

    def scored(self: Any, *args: Any, at: Tensor | None = None, targets: Tensor | None = None, **kwargs: Any) -> Any:
        if at is None or targets is None:
            return forward(*args, **kwargs)
        states = self.base_model(*args, use_cache=False, **kwargs).last_hidden_state
        return log_probs(self.get_output_embeddings(), states.flatten(0, 1).index_select(0, at), targets)

    model.forward = MethodType(scored, model)


def log_probs(head: Any, states: Tensor, targets: Tensor) -> Tensor:
    """Log-probabilities [n], in float32, of the tokens `targets` [n] after the hidden states [n, d]."""
    assert head.bias is None
    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
    found: Tensor = _LogProbs.apply(states, head.weight, targets, dtype, torch.is_grad_enabled())
    return found


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, grad: bool) -> Tensor:
        found = states.new_empty(len(states), dtype=torch.float32)
        ctx.frozen = not weight.requires_grad
        ctx.dtype = dtype
        slopes = torch.empty_like(states) if grad and ctx.frozen else None
        ctx.kept, room = [], KEPT if grad and not ctx.frozen else 0
        with maybe_gather_lm_head_ctx(weight), torch.autocast(states.device.type, enabled=False):
            head = weight.to(dtype)
            ctx.rows = max(1, CHUNK[states.device.type] // len(head))
            for start in range(0, len(states), ctx.rows):
                at = slice(start, start + ctx.rows)
                logits = (states[at].to(dtype) @ head.T).float()  # [chunk, vocabulary]
                picked, highest = logits.gather(1, targets[at, None])[:, 0], logits.amax(1)
                p = torch.softmax(logits, 1)
                # logsumexp without another pass over exponentials: the likeliest token's p is exp(highest - logsumexp)
                found[at] = picked - highest + p.amax(1).log()
                if not grad:
                    continue
                kept = _less_target(p, targets[at]).to(dtype)
                if slopes is not None:
                    slopes[at] = -kept @ head
                room -= kept.nbytes
                ctx.kept.append(kept if room >= 0 else None)
        ctx.save_for_backward(states, weight, targets, slopes)
        return found

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, targets, slopes = ctx.saved_tensors
        if ctx.frozen:
            return slopes * slope[:, None].to(slopes.dtype), None, None, None, None
        to_states = torch.empty_like(states)
        with maybe_gather_lm_head_ctx(weight), torch.autocast(states.device.type, enabled=False):
            head = weight.to(ctx.dtype)
            to_weight = torch.zeros_like(weight, dtype=torch.float32)
            for i, start in enumerate(range(0, len(states), ctx.rows)):
                at = slice(start, start + ctx.rows)
                state = states[at].to(ctx.dtype)
                p = ctx.kept[i]
                if p is None:
                    p = _less_target(torch.softmax((state @ head.T).float(), 1), targets[at]).to(ctx.dtype)
                p = p.float().mul_(-slope[at, None]).to(ctx.dtype)  # of the logits
                to_states[at] = p @ head
                _add_product(to_weight, p.T, state)
                ctx.kept[i] = None
        return to_states, to_weight.to(weight.dtype), None, None, None


def _less_target(p: Tensor, targets: Tensor) -> Tensor:
    """In place: what a log-probability's gradient with respect to the logits is, negated.

    Of the full precision: of a confident token 1 - p is all there is, and rounded to bfloat16 first, p is 1.
    """
    return p.scatter_add_(1, targets[:, None], p.new_full((len(p), 1), -1.0))


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b in float32, without rounding the product first."""
    if a.dtype == torch.float32 or not a.is_cuda:
        total.addmm_(a.float(), b.float())
    else:
        torch.addmm(total, a, b, out_dtype=torch.float32, out=total)
