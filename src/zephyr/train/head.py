"""The last matrix of a language model, on the positions that are scored only, a chunk of them at a time."""

from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 2**26
"""Logits that are in memory at a time (256 MiB in float32); of more than one chunk the backward computes them anew."""


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
        hidden = self.base_model(*args, use_cache=False, **kwargs).last_hidden_state
        chunk = max(1, CHUNK // self.config.get_text_config().vocab_size)
        return log_probs(self.get_output_embeddings(), hidden.flatten(0, 1).index_select(0, at), targets, chunk)

    model.forward = MethodType(scored, model)


def log_probs(head: Any, hidden: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """hidden [n, d] and targets [n] -> log-probabilities [n], `chunk` positions at a time."""
    if len(hidden) <= chunk:
        return _scored(head, hidden, targets)
    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    return torch.cat([checkpoint(_scored, head, h, t, use_reentrant=False) for h, t in parts])


def _scored(head: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    found: Tensor = _LogProb.apply(head(hidden).float(), targets)
    return found


class _LogProb(torch.autograd.Function):
    """Log-softmax at the targets. Of the logits one copy is kept, and the backward writes their gradient over it."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        sums = logits.logsumexp(-1)
        ctx.save_for_backward(logits, targets, sums)
        return logits.gather(-1, targets[:, None]).squeeze(-1) - sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, targets, sums = ctx.saved_tensors
        found = logits.sub_(sums[:, None]).exp_().mul_(-gradient[:, None])
        return found.scatter_add_(-1, targets[:, None], gradient[:, None]), None
