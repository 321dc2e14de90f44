"""A trainer that loses nothing but minutes: it saves when it is due or asked to end, and goes on as if it never ended.

A checkpoint holds weights, optimizer, schedule, every process's random states, the history, and what was summed since
the last log: the weights and the history of a training that went on are those of one that never stopped.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import Trainer, TrainerCallback

from zephyr.progress import Progress
from zephyr.train import ranks
from zephyr.train.job import Job
from zephyr.train.saving import saved
from zephyr.train.saving.guard import Guard
from zephyr.train.saving.keeper import Keeper

SUMS = ("_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "_sums")
"""Attributes of the trainer and its loop that hold what has been summed since the last log, and since the start."""
ESTIMATES = ("total_flos", "train_runtime", "train_samples_per_second", "train_steps_per_second")
"""What Trainer logs at the end, wrong where it went on from a checkpoint; watch.py measures."""


class Checkpointed(Trainer):
    """Goes behind `Loop` and in front of TRL's trainers: `class Trainer(Loop, Checkpointed, DPOTrainer)`."""

    beside: Path | None = None
    """A folder of the first process that goes into every checkpoint, and comes back from it on another machine."""

    def fit(self, job: Job, progress: Progress, clock: Callable[[], float] = time.monotonic) -> dict[str, float]:
        """Train from the newest whole checkpoint, if there is one; returns train_loss and steps.

        Asked to end (SIGTERM, SIGINT), it saves after the step at hand, and SystemExit ends the process.
        """
        self._job, self._progress, self._clock = job, progress, clock
        self._keeper = Keeper(job, progress)
        self._guard = Guard(self, job, self._keeper)
        self.args.save_strategy = "no"  # transformers knows no minutes
        self.args.save_on_each_node = self._keeper.machines > 1
        due = _Due(job.section.save_minutes * 60, job.section.save_steps, clock)
        self.add_callback(due)
        found = self._keeper.find()
        if found and self.beside and ranks.rank() == 0 and not self.beside.exists():
            saved.link(found / self.beside.name, self.beside)
        if found:
            self.add_callback(_Restored(self, found))
        done = False
        try:
            with ending(due):
                result = self.train(resume_from_checkpoint=str(found) if found else None)
            done = True
        finally:
            self._keeper.close(done)
        return {"train_loss": float(result.training_loss), "steps": float(self.state.global_step)}

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Of a checkpoint there is none: TRL would write one each time."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            self._guard.check()
        super().log({name: value for name, value in logs.items() if name not in ESTIMATES}, start_time)
        if "loss" in logs:
            self._guard.growing(self.state.log_history)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """What is trained, into a checkpoint, on each machine: transformers would write weights on the first alone."""
        from peft import PeftModel
        from safetensors.torch import save_model

        if isinstance(self.model, PeftModel):
            super().save_model(output_dir, _internal_call)
        elif self.args.should_save:
            assert output_dir is not None
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            save_model(self.model, f"{output_dir}/model.safetensors")

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        self._guard.saw(self.state.global_step, self._tr_loss, norm)
        return norm

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._keeper.aside)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._guard.check()  # nothing is kept that is no number
        at, began = self.state.global_step, self._clock()
        with self._keeper.saving(at):
            super()._save_checkpoint(model, trial)
        self._progress.metrics({"save_seconds": self._clock() - began}, at)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.is_deepspeed_enabled and self.args.should_save:  # DeepSpeed says which is its latest on one machine
            (tag,) = Path(output_dir).glob("global_step*")
            (Path(output_dir) / "latest").write_text(tag.name)

    def _save_rng_state(self, output_dir: str) -> None:
        """Every process has random states of its own, and sums."""
        import torch

        super()._save_rng_state(output_dir)
        if self.beside and ranks.rank() == 0:
            saved.link(self.beside, Path(output_dir) / self.beside.name)
        torch.save({name: getattr(self, name) for name in SUMS if hasattr(self, name)}, _sums(Path(output_dir)))


class _Due(TrainerCallback):
    """Says when to save: after so many seconds or steps, and when a process is asked to end. All processes agree."""

    def __init__(self, seconds: float, steps: int | None, clock: Callable[[], float]) -> None:
        self._seconds, self._steps, self._clock = seconds, steps, clock
        self._last = clock()
        self.asked = 0
        """The signal that came to this process, or to another one of the training."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last = self._clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        late = ranks.rank() == 0 and self._clock() - self._last >= self._seconds
        asked, due = ranks.most(self.asked, late)
        if asked:
            self.asked = int(asked)
            control.should_training_stop = True
        if asked or due or (self._steps and state.global_step % self._steps == 0):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last = self._clock()


class _Restored(TrainerCallback):
    """Puts back what a checkpoint's sums were, where Trainer begins them anew."""

    def __init__(self, trainer: Any, folder: Path) -> None:
        self._trainer, self._folder = trainer, folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        import torch

        for name, value in torch.load(_sums(self._folder), map_location=args.device.type, weights_only=True).items():
            setattr(self._trainer, name, value)
        self._trainer._initial_global_step = 0  # the mean loss is that of all steps


def _sums(folder: Path) -> Path:
    return folder / f"sums_{ranks.rank()}.pt"


@contextmanager
def ending(due: _Due) -> Iterator[None]:
    """SIGTERM and SIGINT end the training after the step at hand, with a checkpoint, and then the process."""

    def stop(number: int, frame: FrameType | None) -> None:
        due.asked = number

    old = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield
    finally:
        for number, handler in old:
            signal.signal(number, handler)
    if due.asked:
        sys.exit(128 + due.asked)
