"""How far a training is, how fast, and how long still: in the terminal, in MLflow, and as figures of the step.

Speed is about the machine, not about the weights: no key and no digest holds any of it.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback

from zephyr import devices
from zephyr.manifest import HISTORY
from zephyr.progress import Progress

if TYPE_CHECKING:
    from zephyr.train.batches import Steps

_SPEED = ("runtime", "per_second", "flos")  # figures of the machine, not of the training
MACHINE = (
    *("tokens_per_second", "pairs_per_second", "dialogues_per_second", "utilisation"),
    *("peak_memory_gib", "training_seconds"),
)
"""Final figures that another machine, or the same one on another day, gives otherwise."""


@dataclass(frozen=True)
class Load:
    """What the rows of a plan hold: arrays of one number for each row."""

    steps: "Steps"
    tokens: np.ndarray
    """Tokens that are text."""
    attended: np.ndarray
    """Pairs of positions that attention looks at."""
    units: np.ndarray
    """Pairs or dialogues."""
    padded: bool = False
    """The rows of a micro-batch are filled up to its longest."""

    @classmethod
    def of(cls, steps: "Steps", tokens: np.ndarray, trained: np.ndarray | None = None, padded: bool = False) -> "Load":
        """Of rows with so many `tokens` of text; of pairs so many are `trained`, and their two completions count as
        equally long."""
        sizes = tokens.astype(float)
        looked = sizes**2 / 2
        if trained is not None:
            prompt = sizes - trained
            looked = prompt**2 / 2 + prompt * trained + trained.astype(float) ** 2 / 4
        return cls(steps, tokens, looked, np.ones(len(sizes)), padded)

    def at(self, step: int) -> np.ndarray:
        """[4] of optimizer step `step`, counted from 0: units, tokens of text, tokens computed, attended pairs."""
        found = np.zeros(4)
        for process in range(self.steps.processes):
            for rows in self.steps.at(step, process):
                sizes = self.steps.sizes[rows]
                computed = len(rows) * sizes.max(initial=0) if self.padded else sizes.sum()
                found += (self.units[rows].sum(), self.tokens[rows].sum(), computed, self.attended[rows].sum())
        return found


@dataclass(frozen=True)
class Model:
    """What decides the arithmetic of a token."""

    parameters: int
    """That take part in a product: an embedding that is only looked up is none."""
    trained: int
    width: int
    """Of attention, over all layers: layers x heads x size of a head."""

    @classmethod
    def of(cls, model: Any) -> "Model":
        config = model.config.get_text_config()
        table = model.get_input_embeddings().weight
        looked_up = 0 if config.tie_word_embeddings else _elements(table)
        sizes = [(_elements(p), p.requires_grad) for p in model.parameters()]
        trained = sum(n for n, on in sizes if on) - (looked_up if table.requires_grad else 0)
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        width = config.num_hidden_layers * config.num_attention_heads * size
        return cls(sum(n for n, _ in sizes) - looked_up, trained, width)

    def flops(self, tokens: float, attended: float) -> float:
        """Additions and multiplications of forward and backward: 6N for each token where all of N is trained, 4N where
        little is; and attention. What is computed twice to save memory is counted once."""
        return (4 * self.parameters + 2 * self.trained) * tokens + 12 * self.width * attended


def _elements(parameter: Any) -> int:
    """ZeRO-3 leaves an empty parameter here, and bitsandbytes packs two elements into a byte."""
    whole = getattr(parameter, "ds_numel", None) or parameter.numel()
    return int(whole) * (2 if type(parameter).__name__ == "Params4bit" else 1)


@dataclass
class Speed:
    """Sums over optimizer steps."""

    seconds: float = 0.0
    work: np.ndarray = field(default_factory=lambda: np.zeros(4))

    def figures(self, unit: str, model: Model | None, peak: float | None) -> dict[str, float]:
        """`peak`: what all devices can compute in a second, where that is known."""
        units, tokens, computed, attended = self.work.tolist()
        if not (self.seconds and computed):
            return {}
        found = {
            f"{unit}_per_second": units / self.seconds,
            "tokens_per_second": tokens / self.seconds,
            "padding_efficiency": tokens / computed,
        }
        if model and peak:
            found["utilisation"] = model.flops(tokens, attended) / self.seconds / peak
        return found


class Watch(TrainerCallback):
    """Reports to `progress`. Speed is that of the steps alone, without what is measured or saved between them."""

    def __init__(
        self,
        progress: Progress,
        unit: str,
        per_step: float,
        load: Load | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`unit`: pairs or dialogues, `per_step` of them on average; without `load` nothing is told of speed."""
        self.progress = progress
        self._unit = unit
        self._per_step = per_step
        self._load = load
        self._clock = clock
        self._whole, self._window = Speed(), Speed()
        self._model: Model | None = None
        self._peak: float | None = None
        self._began = self._mark = clock()
        self._first = 0
        self._shown: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._first = state.global_step  # the steps before that were made before a stop
        self._began = self._clock()
        if self._load:
            self._model = Model.of(model)
            self._peak = devices.peak(self._load.steps.processes)
        self.go_on()

    def go_on(self) -> None:
        """What was done since the last step, whatever it was, is no part of the next one."""
        self._mark = self._clock()

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.go_on()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.go_on()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if control.should_log or control.should_save or control.should_evaluate:
            devices.settle()  # what a GPU has still to do belongs to the steps
        now = self._clock()
        for speed in (self._whole, self._window):
            speed.seconds += now - self._mark
            if self._load:
                speed.work = speed.work + self._load.at(state.global_step - 1)
        self._mark = now
        done, total = (round(steps * self._per_step) for steps in (state.global_step, state.max_steps))
        left = (now - self._began) / (state.global_step - self._first) * (state.max_steps - state.global_step)
        self.progress.advance(done, total, self._unit, **self._shown, seconds_left=left)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if "loss" in values:
            speed = self._window.figures(self._unit, self._model, self._peak)
            self._window = Speed()
            self._shown = {"loss": values["loss"]} | {n: v for n, v in speed.items() if n != "padding_efficiency"}
            if speed:
                values |= speed | {"peak_memory_gib": devices.peak_memory()}
        self.progress.metrics(values, state.global_step)

    @property
    def figures(self) -> dict[str, float]:
        """Of what this process did of the training."""
        found = self._whole.figures(self._unit, self._model, self._peak)
        if not found:
            return {}
        return found | {"peak_memory_gib": devices.peak_memory(), "training_seconds": self._whole.seconds}


def keep_history(trainer: Any, out: Path) -> None:
    """Write history.json: a list of {step, figures}, from the first step on, in a resumed training as well.

    The trainer's state keeps it in its checkpoints. Of a step the first held-out measurement counts: a later one is of
    other weights, which were put back.
    """
    rows: list[dict[str, float]] = []
    measured: set[int] = set()
    for entry in trainer.state.log_history:
        if "eval_loss" in entry:
            if entry["step"] in measured:
                continue
            measured.add(entry["step"])
        # Sorted: what comes from a checkpoint has its names in that order.
        own = ((name, value) for name, value in sorted(entry.items()) if not name.endswith(_SPEED))
        rows.append({name: value for name, value in own if isinstance(value, int | float)})
    out.mkdir(parents=True, exist_ok=True)
    (out / HISTORY).write_text(json.dumps(rows, indent=0) + "\n")
