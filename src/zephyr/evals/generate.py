"""Batched generation from a folder of weights, the same text alone and in any batch."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.data import template
from zephyr.progress import Progress
from zephyr.schema import Message

if TYPE_CHECKING:
    from torch import Tensor


class Generator:
    """A model in memory that continues conversations."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer = template.install(AutoTokenizer.from_pretrained(folder))
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(self._device).eval()

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        temperatures: Sequence[float],
        max_tokens: int,
        batch_size: int,
        seed: int,
        progress: Progress,
    ) -> list[tuple[str, int]]:
        """The assistant's next turn in each conversation, and its length in tokens; temperature 0 is greedy.

        Rows are sorted by length, so that a batch holds little padding; each row draws from a random stream of its
        own (of seed and prompt), so that its text doesn't depend on what else is in the batch.
        """
        prompts = [template.encode_prompt(self._tokenizer, messages) for messages in conversations]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        texts: list[tuple[str, int]] = [("", 0)] * len(prompts)
        done = 0
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            made = self._batch([prompts[i] for i in rows], [temperatures[i] for i in rows], max_tokens, seed)
            for i, ids in zip(rows, made, strict=True):
                texts[i] = (self._tokenizer.decode(ids, skip_special_tokens=True).strip(), len(ids))
            done += len(rows)
            progress.advance(done, len(prompts), "answers")
        return texts

    def _batch(
        self, prompts: Sequence[list[int]], temperatures: Sequence[float], max_tokens: int, seed: int
    ) -> list[list[int]]:
        import torch
        from transformers import DynamicCache

        eos, pad = self._tokenizer.eos_token_id, self._tokenizer.pad_token_id
        width = max(map(len, prompts))
        limit = getattr(self._model.config, "max_position_embeddings", width + max_tokens)
        max_tokens = max(0, min(max_tokens, limit - width))
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=self._device)  # [rows, width]
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        draws = _draws(prompts, max_tokens, seed).to(self._device)  # [rows, max_tokens]
        heat = torch.tensor(temperatures, device=self._device)
        cache: Any = DynamicCache(config=self._model.config)
        made: list[list[int]] = [[] for _ in prompts]
        rows = list(range(len(prompts)))  # those that still speak, in the order of the tensors
        with torch.inference_mode():
            for step in range(max_tokens):
                out = self._model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                picked = _pick(out.logits[:, -1].float(), heat, draws[:, step])
                tokens = picked.tolist()
                going = [place for place, token in enumerate(tokens) if token != eos]
                for place in going:
                    made[rows[place]].append(tokens[place])
                if not going:
                    break
                ids, positions = picked[:, None], positions[:, -1:] + 1
                mask = torch.cat((mask, mask.new_ones(len(rows), 1)), dim=1)
                if len(going) <= 0.75 * len(rows):  # drop finished rows once it pays for the copy of the cache
                    keep = torch.tensor(going, device=self._device)
                    ids, positions, mask, heat, draws = (x[keep] for x in (ids, positions, mask, heat, draws))
                    cache.batch_select_indices(keep)
                    rows = [rows[place] for place in going]
                else:
                    _silence(made, rows, tokens, eos)
        return [row[: row.index(eos)] if eos in row else row for row in made]


def _silence(made: list[list[int]], rows: list[int], tokens: list[int], eos: int) -> None:
    """Mark finished rows that stay in the batch, so that what they go on to say is cut off."""
    for place, token in enumerate(tokens):
        if token == eos:
            made[rows[place]].append(eos)


def _pick(logits: "Tensor", heat: "Tensor", draws: "Tensor") -> "Tensor":
    """Next tokens [rows] from logits [rows, vocabulary]: greedy at temperature 0, else by the inverse of the CDF."""
    import torch

    greedy = logits.argmax(-1)
    if not bool((heat > 0).any()):
        return greedy
    chances = (logits / heat.clamp(min=1e-6)[:, None]).softmax(-1).cumsum(-1)
    sampled = torch.searchsorted(chances, draws[:, None].clamp(max=0.999999) * chances[:, -1:]).squeeze(-1)
    return torch.where(heat > 0, sampled.clamp(max=logits.shape[-1] - 1), greedy)


def _draws(prompts: Sequence[list[int]], count: int, seed: int) -> "Tensor":
    import torch

    def stream(prompt: list[int]) -> "Tensor":
        number = int(hashlib.sha256(repr((seed, prompt)).encode()).hexdigest()[:15], 16)
        return torch.rand(count, generator=torch.Generator().manual_seed(number))

    return torch.stack([stream(prompt) for prompt in prompts])
