"""Continuous batching: sequences join and leave a running batch, each with the text it would have had alone.

Evaluation and the server generate with this one engine. A row of the batch owns a slot of the key-value cache, filled
from the left; a mask hides what lies behind its last token, so that neither the neighbours nor their lengths change
what a row computes. Sampled rows draw from a random stream of their own.
"""

from collections import deque
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from zephyr.cache import Slots, View
from zephyr.data import template
from zephyr.errors import ModelError, first_line

if TYPE_CHECKING:
    from torch import Tensor

PREFILL_TOKENS = 8192
"""Prompt tokens of one forward over several prompts, padding included."""


class Logprob(NamedTuple):
    """Natural logarithm of a token's probability before temperature, and the likeliest tokens beside it."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(eq=False)
class Sequence:
    """A prompt and what is said to it."""

    prompt: Items[int]
    max_tokens: int
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    seed: int | str = 0
    top_logprobs: int | None = None
    """None: no logprobs; else so many of the likeliest tokens beside each chosen one."""
    prompt_logprobs: list[Logprob] | None = None
    """A list to be filled with those of the prompt, from its second token on; the end of the sequence has one then."""
    tokens: list[int] = field(default_factory=list)
    """Without the end of the sequence."""
    logprobs: list[Logprob] = field(default_factory=list)
    finish_reason: str | None = None
    """stop, length or cancelled, once it is over."""
    cancelled: bool = False
    """Set from outside, by any thread: the row is given up before the next token."""
    began: float = field(default_factory=perf_counter)
    first_token: float | None = None
    """When it came, by the clock of `began`."""

    def __post_init__(self) -> None:
        self.random = Random(self.seed)


class Engine:
    """A model in memory and the batch that it works on; one thread at a time.

    `max_rows` sequences are generated together at most.
    """

    @classmethod
    def load(cls, folder: Path, max_rows: int) -> "Engine":
        """An engine of the weights and tokenizer in a folder. Raises ModelError when it holds no usable model."""
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()  # what its report would say of missing weights, the error below says
        tokenizer = template.tokenizer_of(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        try:
            model, found = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, attn_implementation="sdpa", output_loading_info=True
            )
        except Exception as error:  # noqa: BLE001  (safetensors, tokenizers and transformers each raise their own)
            raise ModelError(f"{folder}: not a model that can be loaded ({first_line(error)})") from None
        if found["missing_keys"]:
            names = ", ".join(sorted(found["missing_keys"])[:3])
            raise ModelError(f"{folder}: weights lack {names}, which would be random; fetch or save the model anew")
        return cls(model.to(device).eval(), tokenizer, max_rows, str(folder))

    def __init__(self, model: Any, tokenizer: Any, max_rows: int, name: str = "the model") -> None:
        """Raises ModelError for an architecture that its cache can't serve."""
        self.model = model
        self.tokenizer = tokenizer
        config = self.model.config
        if len(set(getattr(config, "layer_types", None) or ["full_attention"])) > 1:
            raise ModelError(f"{name}: {config.model_type} mixes kinds of attention; serve it with vLLM")
        self.context = int(getattr(config, "max_position_embeddings", 1 << 30))
        """Tokens of a prompt and its answer together."""
        self._device = str(self.model.device)
        ends = self.model.generation_config.eos_token_id
        self._stops = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}
        self._max_rows = max_rows
        self._slots = Slots(getattr(config, "sliding_window", None), self._device)
        self._waiting: deque[Sequence] = deque()
        self._rows: list[Sequence] = []
        self._last: list[int] = []  # the token that each row said last

    @property
    def running(self) -> int:
        return len(self._rows)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; its prompt must leave room in the context."""
        assert 0 < len(sequence.prompt) < self.context
        sequence.max_tokens = min(sequence.max_tokens, self.context - len(sequence.prompt))
        self._waiting.append(sequence)

    def step(self) -> list[Sequence]:
        """Let newcomers in, or say one more token of every row; returns the sequences that changed."""
        import torch

        with torch.inference_mode():
            given_up = self._give_up()
            newcomers = self._newcomers()
            changed = self._prefill(newcomers) if newcomers else self._decode() if self._rows else []
        return given_up + changed

    def _give_up(self) -> list[Sequence]:
        gone = [s for s in (*self._waiting, *self._rows) if s.cancelled]
        if gone:
            self._waiting = deque(s for s in self._waiting if not s.cancelled)
            for sequence in gone:
                sequence.finish_reason = "cancelled"
            self._drop()
        return gone

    def _newcomers(self) -> list[Sequence]:
        found: list[Sequence] = []
        width = 0
        while self._waiting and len(self._rows) + len(found) < self._max_rows:
            width = max(width, len(self._waiting[0].prompt))
            if found and width * (len(found) + 1) > PREFILL_TOKENS:
                break
            found.append(self._waiting.popleft())
        return found

    def _prefill(self, newcomers: list[Sequence]) -> list[Sequence]:
        """Read the prompts of sequences that join the batch, and say their first token."""
        import torch

        lengths = [len(s.prompt) for s in newcomers]
        width = max(lengths)
        ids = torch.tensor([[*s.prompt, *[0] * (width - len(s.prompt))] for s in newcomers], device=self._device)
        ends = torch.tensor([n - 1 for n in lengths], device=self._device)
        read = [n for n, s in enumerate(newcomers) if s.prompt_logprobs is not None]
        # Logits of these positions alone are computed.
        wanted, place = (torch.arange(width, device=self._device), ends) if read else ends.unique(return_inverse=True)
        with self._slots.joining(lengths) as cache:
            logits = self._forward(ids, cache, logits_to_keep=wanted)
        for number in read:
            _read_prompt(newcomers[number], logits[number])
        self._rows += newcomers
        self._last += [0] * len(newcomers)
        return self._say(newcomers, logits[torch.arange(len(newcomers), device=self._device), place])

    def _decode(self) -> list[Sequence]:
        import torch

        ids = torch.tensor(self._last, device=self._device)[:, None]
        with self._slots.going_on() as cache:
            logits = self._forward(ids, cache)
        return self._say(self._rows, logits[:, -1])

    def _forward(self, ids: "Tensor", cache: View, **options: Any) -> "Tensor":
        """Logits [rows, queries, vocabulary] of token ids [rows, queries]."""
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=cache.mask,
            position_ids=cache.positions,
            past_key_values=cache.layers,
            use_cache=True,
            **options,
        ).logits
        return logits

    def _say(self, rows: list[Sequence], logits: "Tensor") -> list[Sequence]:
        """Choose the next token of each of the last rows from logits [rows, vocabulary]."""
        changed = list(rows)
        first = len(self._rows) - len(rows)
        logits = logits.float()
        for number, (sequence, token) in enumerate(zip(rows, choose(logits, rows), strict=True)):
            self._last[first + number] = token
            sequence.first_token = sequence.first_token or perf_counter()
            over = token in self._stops
            if sequence.top_logprobs is not None and not (over and sequence.prompt_logprobs is None):
                sequence.logprobs.append(_logprob(logits[number], token, sequence.top_logprobs))
            if over:
                sequence.finish_reason = "stop"
                continue
            sequence.tokens.append(token)
            if len(sequence.tokens) >= sequence.max_tokens:
                sequence.finish_reason = "length"
        self._drop()
        return changed

    def _drop(self) -> None:
        """Take finished rows out: the last row moves into the free slot."""
        for row in range(len(self._rows) - 1, -1, -1):
            if self._rows[row].finish_reason is not None:
                self._slots.drop(row)
                self._rows[row], self._last[row] = self._rows[-1], self._last[-1]
                self._rows.pop()
                self._last.pop()


def choose(logits: "Tensor", rows: Items[Sequence]) -> list[int]:
    """Next token of each row of logits [rows, vocabulary]: greedy at temperature 0, else drawn.

    A draw is the inverse of the cumulative distribution at a number of the row's own stream; top_p keeps the smallest
    set of likeliest tokens that reaches it.
    """
    import torch

    greedy: list[int] = logits.argmax(-1).tolist()
    drawn = [number for number, sequence in enumerate(rows) if sequence.temperature > 0]
    if not drawn:
        return greedy
    # At less than this, float32 can't hold what comes out.
    heat = torch.tensor([max(rows[i].temperature, 1e-5) for i in drawn], device=logits.device)
    chances = (logits[drawn] / heat[:, None]).softmax(-1)
    if any(rows[i].top_p < 1 for i in drawn):
        chances = _nucleus(chances, torch.tensor([rows[i].top_p for i in drawn], device=logits.device))
    sums = chances.double().cumsum(-1)  # float32 would round a number just below 1 up to it
    drawn_at = torch.tensor([rows[i].random.random() for i in drawn], dtype=sums.dtype, device=logits.device)
    points = drawn_at[:, None] * sums[:, -1:]
    picked = torch.searchsorted(sums, points, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1).tolist()
    for i, token in zip(drawn, picked, strict=True):
        greedy[i] = token
    return greedy


def _nucleus(chances: "Tensor", top_p: "Tensor") -> "Tensor":
    """Chances [rows, vocabulary] with 0 for all but the likeliest tokens that together reach top_p [rows]."""
    ordered, place = chances.sort(dim=-1, descending=True)
    beyond = ordered.cumsum(-1) - ordered >= top_p[:, None]
    beyond[:, 0] = False  # a top_p that rounds to 0 keeps the likeliest
    ordered[beyond] = 0.0
    return chances.scatter(-1, place, ordered)


def _read_prompt(sequence: Sequence, logits: "Tensor") -> None:
    """Fill in the prompt's log-probabilities from logits [positions, vocabulary]; padding stands behind its end."""
    import torch

    assert sequence.prompt_logprobs is not None
    logs = logits[: len(sequence.prompt) - 1].float().log_softmax(-1)
    own = logs.gather(-1, torch.tensor(sequence.prompt[1:], device=logs.device)[:, None])[:, 0].tolist()
    values, tokens = logs.topk(sequence.top_logprobs or 0)
    tops = (tuple(zip(*row, strict=True)) for row in zip(tokens.tolist(), values.tolist(), strict=True))
    sequence.prompt_logprobs += map(Logprob, sequence.prompt[1:], own, tops)


def _logprob(logits: "Tensor", token: int, count: int) -> Logprob:
    logs = logits.log_softmax(-1)
    values, tokens = logs.topk(count) if count else (logs[:0], logs[:0])
    top = tuple(zip((int(t) for t in tokens.tolist()), values.tolist(), strict=True))
    return Logprob(token, float(logs[token]), top)
