"""The training loop of both trainers: an item of the data loader is one optimizer step, cut into micro-batches here.

To transformers' Trainer nothing accumulates and nothing is sharded: its schedule, resuming and callbacks count
optimizer steps, and every process reads its own part of each step.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zephyr.train import ranks
from zephyr.train.batches import Steps

Batch = dict[str, Any]


@dataclass(frozen=True)
class Feed:
    """What is trained on, or measured: which rows when, as which tensors, and what a step's sum is divided by."""

    steps: Steps
    collate: Callable[[np.ndarray], Batch]
    """Tensors, on the CPU, of the rows of one micro-batch."""
    norm: Callable[[int], float]
    """Pairs, or trained tokens, in a step of all processes."""


@dataclass(frozen=True)
class Turn:
    """One micro-batch of this process."""

    batch: Batch
    idle: bool
    """Other processes have a row more; this one only keeps step with them, and what it computes doesn't count."""


class Turns:
    """A feed as this process's data set: an item is the list of micro-batches of one optimizer step."""

    def __init__(self, feed: Feed, process: int) -> None:
        self._feed = feed
        self._process = process

    def __len__(self) -> int:
        return len(self._feed.steps)

    def __getitem__(self, step: int) -> list[Turn]:
        if step >= len(self):
            raise IndexError(step)
        steps = self._feed.steps
        return [
            Turn(self._feed.collate(rows if len(rows) else steps.spare(step)), idle=not len(rows))
            for rows in steps.at(step, self._process)
        ]


class Loop:
    """In front of a trainer of TRL: `class Trainer(Loop, DPOTrainer)`, with `micro_loss` of its own.

    Rows of a step are summed and divided by `feed.norm(step)`: a mean per pair or per trained token, the same whatever
    the micro-batches and the number of processes.
    """

    def __init__(self, *args: Any, feed: Feed, held_out: Feed | None = None, **kwargs: Any) -> None:
        self.feed = feed
        self.held_out_feed = held_out
        self._sums: dict[str, list[Any]] = {}
        self._idle = False
        super().__init__(*args, **kwargs)
        from transformers import PrinterCallback

        trainer: Any = self
        trainer.remove_callback(PrinterCallback)  # `watch` tells it in words

    def micro_loss(self, model: Any, batch: Batch) -> Any:
        """The sum of the losses of the micro-batch's rows; `batch` is on the device, `model` as it is wrapped."""
        raise NotImplementedError

    def add(self, name: str, total: Any, weight: Any) -> None:
        """Add to the metric `name`, which is the sum of totals over the sum of weights, of all processes.

        Numbers or tensors of one element; nothing waits for the device before the next log. Every process must add
        to the same names.
        """
        if self._idle:
            total = weight = 0.0
        sums = self._sums.setdefault(name, [0.0, 0.0])
        for place, value in enumerate((total, weight)):
            sums[place] = sums[place] + (value.detach() if hasattr(value, "detach") else value)

    def held_out(self, feed: Feed) -> dict[str, float]:
        """The loss and the metrics of a feed's first step, measured by all processes together, without gradients."""
        import torch

        trainer: Any = self
        # What ZeRO has cut up is whole only inside its engine's forward.
        model = trainer.model_wrapped if trainer.is_deepspeed_enabled else trainer.model
        kept, self._sums = self._sums, {}
        model.eval()
        try:
            self.add("loss", 0.0, feed.norm(0) / ranks.processes())
            with torch.no_grad():
                for turn in Turns(feed, ranks.rank())[0]:
                    self.add("loss", self._loss(model, turn), 0.0)
            return self._gathered()
        finally:
            self._sums, self._idle = kept, False

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """Measure the held-out rows, and log it."""
        assert self.held_out_feed is not None
        trainer: Any = self
        found = {f"{metric_key_prefix}_{name}": value for name, value in self.held_out(self.held_out_feed).items()}
        trainer.log(dict(found))
        trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, found)
        return found

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        """The schedule must end with the training, at the rate that it says, or steps were miscounted."""
        trainer: Any = self
        found = super().create_scheduler(*args, **kwargs)  # type: ignore[misc]
        share = found.lr_lambdas[0](len(self.feed.steps))
        expected = float(trainer.args.lr_scheduler_type == "constant_with_warmup")
        assert abs(share - expected) < 1e-6, f"the learning rate would end at {share:.3g} of its highest"
        return found

    def get_train_dataloader(self) -> Any:
        """One item for each optimizer step of the whole training, ready before the device asks for it."""
        from torch.utils.data import DataLoader

        trainer: Any = self
        gpu = trainer.args.device.type == "cuda"
        return DataLoader(
            Turns(self.feed, ranks.rank()),
            batch_size=1,
            collate_fn=_only,
            pin_memory=gpu,
            num_workers=1 if gpu else 0,
            multiprocessing_context="fork" if gpu else None,
        )

    def training_step(self, model: Any, inputs: list[Turn], num_items_in_batch: Any = None) -> Any:
        """Forward and backward of all micro-batches of a step; returns its loss times the number of processes.

        DDP and ZeRO take the mean of the processes' gradients, and Trainer's log the mean of their losses.
        """
        import torch

        trainer: Any = self
        model.train()
        scale = ranks.processes() / self.feed.norm(trainer.state.global_step)
        # DeepSpeed would divide by the number of micro-batches: ours are parts of a sum.
        options = {"scale_wrt_gas": False} if trainer.is_deepspeed_enabled else {}
        total = torch.zeros((), device=trainer.args.device)
        for number, turn in enumerate(inputs, start=1):
            last = number == len(inputs)
            trainer.accelerator.gradient_state._set_sync_gradients(last)
            alone = not last and not trainer.is_deepspeed_enabled
            with trainer.accelerator.no_sync(model=model) if alone else contextlib.nullcontext():
                loss = self._loss(model, turn) * scale
                trainer.accelerator.backward(loss, **options)
            total += loss.detach()
        return total

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Gathers what `add` has collected since the log before; `epoch` counts passes over the rows."""
        trainer: Any = self
        if "loss" in logs:
            logs |= self._gathered()
        trainer.state.epoch = self.feed.steps.epoch(trainer.state.global_step)
        super().log(logs, start_time)  # type: ignore[misc]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Into a checkpoint; what DeepSpeed saves has the weights in it already, in parts."""
        trainer: Any = self
        if not trainer.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)  # type: ignore[misc]

    def floating_point_ops(self, inputs: Any) -> float:
        """Trainer's estimate takes an item for a batch, and padding for work."""
        return 0.0

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """The last step is logged whatever `log_steps` is: the history ends with the training."""
        trainer: Any = self
        if trainer.state.global_step >= trainer.state.max_steps:
            trainer.control.should_log = True
        super()._maybe_log_save_evaluate(*args, **kwargs)  # type: ignore[misc]

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> Mapping[str, float]:
        """The measurement before the start belongs to the start alone, not to where a training resumes."""
        trainer: Any = self
        if skip_scheduler and trainer.state.global_step:
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)  # type: ignore[misc,no-any-return]

    def _loss(self, model: Any, turn: Turn) -> Any:
        trainer: Any = self
        batch = trainer._prepare_inputs(turn.batch)
        self._idle = turn.idle
        with trainer.accelerator.autocast():
            loss = self.micro_loss(model, batch)
        self._idle = False
        return loss * 0.0 if turn.idle else loss

    def _gathered(self) -> dict[str, float]:
        """Total by weight of each metric over all processes: one collective, and one wait for the device."""
        import torch

        trainer: Any = self
        names = sorted(self._sums)
        flat = [
            torch.as_tensor(value, dtype=torch.float64, device=trainer.args.device).reshape(())
            for name in names
            for value in self._sums[name]
        ]
        self._sums = {}
        if not flat:
            return {}
        pairs = ranks.sums(torch.stack(flat)).reshape(-1, 2).tolist()
        return {name: total / weight for name, (total, weight) in zip(names, pairs, strict=True) if weight}


def _only(items: list[list[Turn]]) -> list[Turn]:
    return items[0]
