"""Log-probabilities of preference pairs: in flat rows where prompts are shared, or in padded rows as TRL has them.

Both layouts give TRL's losses the same: per-token log-probabilities [2 pairs, tokens], chosen completions first.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from zephyr.train.rows import Rows

Ids = np.ndarray[Any, np.dtype[np.int32]]
Pair = tuple[Ids, Ids, Ids, Ids]
"""Token ids: the chosen completion's prompt, the rejected one's (mostly the same), both completions."""
Batch = dict[str, Any]
TO_LOSS = ("completion_mask", "ref_chosen_logps", "ref_rejected_logps")


class Layout(Protocol):
    padded: bool

    def prepare(self, model: Any) -> None:
        """To be called before PEFT or a trainer wraps the model."""

    def batch(self, pairs: Sequence[Pair]) -> Batch:
        """Tensors of one forward: input_ids, completion_mask [2 pairs, 1 + tokens], and what the layout needs."""

    def outputs(self, model: Any, batch: Batch, **options: Any) -> Any:
        """log_probs [2 pairs, tokens] in float32, 0 where completion_mask[:, 1:] is; aux_loss if `options` ask for it.

        `options` are the model's, of padded rows.
        """


class Flat:
    """All pairs in one row without padding, each prompt once, however often it is continued."""

    padded = False

    def prepare(self, model: Any) -> None:
        from zephyr.train.forward import attention, head

        head.install(model)
        model.set_attn_implementation(attention.NAME)

    def batch(self, pairs: Sequence[Pair]) -> Batch:
        import torch

        from zephyr.train.forward import attention

        shared = [len(one) if _same(one, other) else 0 for one, other, _, _ in pairs]
        leads = [np.concatenate((prompt, chosen)) for prompt, _, chosen, _ in pairs]
        rests = [
            rejected if common else np.concatenate((other, rejected))
            for common, (_, other, _, rejected) in zip(shared, pairs, strict=True)
        ]
        places = [np.arange(len(lead)) for lead in leads]
        places += [np.arange(common, common + len(rest)) for common, rest in zip(shared, rests, strict=True)]
        ids = np.concatenate([*leads, *rests]).astype(np.int64)
        chosen, rejected = [pair[2] for pair in pairs], [pair[3] for pair in pairs]
        return {
            "input_ids": torch.from_numpy(ids)[None],
            "position_ids": torch.from_numpy(np.concatenate(places))[None],
            "segments": attention.segments([*map(len, leads)], shared, [*map(len, rests)]),
            "at": torch.from_numpy(np.concatenate(_before(pairs, shared, leads, rests))),
            "targets": torch.from_numpy(np.concatenate([*chosen, *rejected]).astype(np.int64)),
            "completion_mask": _mask([len(text) for text in (*chosen, *rejected)]),
        }

    def outputs(self, model: Any, batch: Batch, **_: Any) -> Any:
        found = model(**_for_model(batch))
        mask = batch["completion_mask"][:, 1:].bool()
        return SimpleNamespace(log_probs=found.new_zeros(mask.shape).masked_scatter(mask, found), aux_loss=None)


class Padded:
    """Each completion with its prompt in a row of its own, filled up to the longest: TRL's forward as it is."""

    padded = True

    def __init__(self, pad: int) -> None:
        self._pad = pad

    def prepare(self, model: Any) -> None:
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model)

    def batch(self, pairs: Sequence[Pair]) -> Batch:
        import torch
        from torch.nn.utils.rnn import pad_sequence

        rows = [(pair[side], pair[2 + side]) for side in (0, 1) for pair in pairs]
        texts = [torch.from_numpy(np.concatenate(row).astype(np.int64)) for row in rows]
        marks = [torch.cat((torch.zeros(len(a), dtype=int), torch.ones(len(b), dtype=int))) for a, b in rows]
        return {
            "input_ids": pad_sequence(texts, True, self._pad),
            "attention_mask": pad_sequence([torch.ones_like(text) for text in texts], True),
            "completion_mask": pad_sequence(marks, True),
        }

    def outputs(self, model: Any, batch: Batch, **options: Any) -> Any:
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        return model(**_for_model(batch), **options, labels=labels, use_cache=False, fused_lm_head=True)


def collate(layout: Layout, rows: "Rows", logps: np.ndarray) -> Callable[[np.ndarray], Batch]:
    """Indices of pairs to the tensors of one forward, with the reference's log-probabilities [n, 2] of all rows."""
    import torch

    def batch(indices: np.ndarray) -> Batch:
        chosen, rejected = torch.from_numpy(logps[indices].astype(np.float32)).unbind(1)
        return {**layout.batch(_taken(rows, indices)), "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}

    return batch


def scores(layout: Layout, rows: "Rows") -> Callable[[Any, np.ndarray], "Tensor"]:
    """Model and indices [b] of pairs to the log-probabilities [b, 2] of their completions."""
    import torch
    from accelerate.utils import send_to_device

    def forward(model: Any, indices: np.ndarray) -> "Tensor":
        batch = send_to_device(layout.batch(_taken(rows, indices)), model.device)
        return torch.stack(layout.outputs(model, batch).log_probs.sum(1).chunk(2), 1)

    return forward


def _taken(rows: "Rows", indices: np.ndarray) -> list[Pair]:
    return [(*rows.prompts(row), *rows.pair(row)[1:]) for row in indices.tolist()]


def _for_model(batch: Batch) -> Batch:
    return {name: value for name, value in batch.items() if name not in TO_LOSS}


def _same(one: Ids, other: Ids) -> bool:
    return one is other or np.array_equal(one, other)


def _before(
    pairs: Sequence[Pair], shared: Sequence[int], leads: Sequence[Ids], rests: Sequence[Ids]
) -> list[np.ndarray]:
    """Where the token before each token of the completions is, chosen ones first."""
    chosen, rejected = [], []
    starts = np.cumsum([0, *map(len, leads), *map(len, rests)])
    for i, (prompt, other, good, bad) in enumerate(pairs):
        chosen.append(starts[i] + len(prompt) - 1 + np.arange(len(good)))
        start = starts[len(pairs) + i]
        places = start + len(other) - shared[i] - 1 + np.arange(len(bad))
        if shared[i]:
            places[0] = chosen[-1][0]  # the prompt's last token
        rejected.append(places)
    return [*chosen, *rejected]


def _mask(sizes: Sequence[int]) -> "Tensor":
    """[texts, 1 + longest]: TRL leaves the first place out, which nothing predicts."""
    import torch

    places = torch.arange(max(sizes) + 1)[None]
    return ((places > 0) & (places <= torch.tensor(sizes)[:, None])).long()
