"""Ends a training whose loss or gradient is no number any more, or whose loss only grows, and saves the rows at fault.

Losses and gradient norms of the steps stay on the device until metrics are logged or a checkpoint is saved: nobody
waits for them in between, and no checkpoint is made of weights that are no numbers.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from statistics import median
from typing import Any

from zephyr.data import template
from zephyr.errors import StoreError, TrainingError
from zephyr.train import ranks
from zephyr.train.cutting import dialogues, pairs
from zephyr.train.job import Job
from zephyr.train.saving.keeper import Keeper

TIMES, LOGS, BEFORE = 3.0, 3, 20
"""A loss diverges when so many logged ones in a row are so many times the median of so many before, and worse than the
first. A bad batch doesn't do that, nor does noise about a loss that has become small."""
NOTHING = 0.05
"""A training whose first loss is less begins at its best: its loss can only grow, and says nothing."""
WIDE = 512  # rows that are encoded at a time


class Guard:
    def __init__(self, trainer: Any, job: Job, keeper: Keeper) -> None:
        self._trainer, self._job, self._keeper = trainer, job, keeper
        self._seen: list[tuple[int, Any, Any]] = []

    def saw(self, step: int, loss: Any, norm: Any) -> None:
        """Remember an optimizer step, counted from 0: the sum of losses since the last log, and the gradient's norm."""
        self._seen.append((step, loss.detach().clone(), 0.0 if norm is None else norm))

    def check(self) -> None:
        """Raises TrainingError when a step since the last check had a loss or a gradient that is no number."""
        if not self._seen:
            return
        import torch

        losses = torch.stack([loss for _, loss, _ in self._seen]).tolist()
        norms = torch.stack([torch.as_tensor(norm) for _, _, norm in self._seen]).tolist()
        norms = [math.nan if norm < 0 else norm for norm in norms]  # DeepSpeed's -1
        if self._trainer.args.fp16:  # its scaler leaves out a step whose gradient is too large, and goes on
            norms = [0.0] * len(norms)
        steps = [step for step, _, _ in self._seen]
        self._seen = []
        loss_at, norm_at = (-int(first) for first in ranks.most(-_end(losses), -_end(norms)))
        at = min(loss_at, norm_at)
        if at == len(steps):
            return
        what = "loss" if loss_at == at else "gradient"
        why = f"the {what} of step {steps[at] + 1} is nan or infinite"
        remedy = f"lower {self._job.stage}.learning_rate, or leave out the rows at fault, and run again"
        raise self._stopped(steps[at], why, remedy, {"loss": losses[at], "gradient_norm": norms[at]})

    def growing(self, history: Sequence[Mapping[str, float]]) -> None:
        """Raises TrainingError when the logged loss diverges."""
        logged = [(int(entry["step"]), entry["loss"]) for entry in history if "loss" in entry]
        if diverges([loss for _, loss in logged]):
            at, loss = logged[-1]
            why = f"the loss grows: {loss:.4g} at step {at}, after {logged[0][1]:.4g} at first"
            stage = self._job.stage
            remedy = f"lower {stage}.learning_rate or raise {stage}.warmup_ratio, and run again"
            raise self._stopped(at - 1, why, remedy, {"loss": loss})

    def _stopped(self, step: int, why: str, remedy: str, figures: Mapping[str, float]) -> TrainingError:
        """The error, the same in every process, after the first one has saved the step's rows."""
        place = ""
        if ranks.rank() == 0:
            told = {name: value if math.isfinite(value) else str(value) for name, value in figures.items()}
            found = {"step": step + 1, "why": why, **told, "rows": list(self._rows(step))}
            place = self._kept(f"stopped-at-{step + 1}.json", json.dumps(found, indent=1) + "\n")
        return TrainingError(f"{self._job.step}: {why}; its rows are in {ranks.words(place)[0]}; {remedy}")

    def _kept(self, name: str, text: str) -> str:
        try:
            return self._keeper.shelve(name, text)
        except StoreError as error:
            return f"no file ({error})"

    def _rows(self, step: int) -> Iterator[dict[str, Any]]:
        """Of all processes: the token ids as the model gets them, as text, and the table's row."""
        tokenizer, feed = self._trainer.processing_class, self._trainer.feed
        rows = [int(row) for row in feed.steps.chosen(step)]
        tables = dict(_tables(self._job, tokenizer, set(rows)))
        for row in rows:
            ids = feed.collate(feed.steps.chosen(step)[[rows.index(row)]])["input_ids"].flatten().tolist()
            yield {"row": row, "token_ids": ids, "text": tokenizer.decode(ids), "table": tables[row]}


def _end(values: Sequence[float]) -> int:
    """How many are numbers, before the first that is none."""
    return next((n for n, value in enumerate(values) if not math.isfinite(value)), len(values))


def diverges(losses: Sequence[float]) -> bool:
    """Whether the last ones are what a training doesn't come back from."""
    before, last = losses[:-LOGS], losses[-LOGS:]
    if not before or losses[0] < NOTHING:
        return False
    usual = median(before[-BEFORE:])
    return usual > 0 and min(last) > max(TIMES * usual, losses[0])


def _tables(job: Job, tokenizer: Any, wanted: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The table's row of each encoded row: encoded once more, since those that were dropped have no number."""
    number = 0
    table = job.rows("train")
    while batch := list(islice(table, WIDE)):
        whole = _count(job, tokenizer, batch) == len(batch)
        for row in batch:
            if whole or _count(job, tokenizer, [row]):
                if number in wanted:
                    yield number, row
                number += 1
        if number > max(wanted):
            return


def _count(job: Job, tokenizer: Any, rows: Sequence[dict[str, Any]]) -> int:
    """How many of the rows are trained on."""
    columns = (job.messages,) if job.stage == "sft" else ("chosen", "rejected")
    talks = template.encode_all(tokenizer, [row[column] for row in rows for column in columns])
    if job.stage == "sft":
        return len(dialogues(talks, tokenizer.eos_token_id, job.recipe.sft)[0])
    return len(pairs(talks, tokenizer.eos_token_id, job.recipe.dpo)[0])
