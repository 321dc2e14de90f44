"""Choice of the weights that become the model: the best of several moments, by held-out loss or by a judge.

Where the last weights are the model, the moments may be measured all the same, and none of their weights is kept.

At each moment the first process measures; the others wait for its word through sockets (gloo), where no watchdog of a
GPU's collectives counts the minutes. What was measured is kept beside the checkpoints: a resumed training measures no
moment twice. Measuring draws no random number and changes no weight, so the steps are those of a training without it.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from zephyr.engine import Engine
from zephyr.engine import Sequence as Said
from zephyr.errors import DataError, ModelError, disk
from zephyr.manifest import describe_file
from zephyr.train import ranks
from zephyr.train.job import Job
from zephyr.train.watching.curve import CHOSEN, MARGIN, Curve, Entry
from zephyr.train.watching.watch import Watch

FOLDER, STATE = "choice", "state.json"
ROWS = 32
"""Answers that are generated together."""
PATIENCE = timedelta(hours=12)
"""How long processes wait for the one that measures."""


class Judge(Protocol):
    """Grades answers to held-out prompts; it lies above the trainings, which get it from the step."""

    @property
    def prompts(self) -> Sequence[str]: ...

    def __call__(self, step: int, answers: Sequence[str], start: Sequence[str]) -> Mapping[str, float]:
        """`value`, `low`, `high` and more, of the answers at a step beside the starting model's."""


def fit(trainer: Any, job: Job, tokenizer: Any, judge: Judge | None, told: Watch) -> dict[str, float]:
    """Train, and leave the weights in the model that the recipe chooses; returns the figures of both."""
    if not job.section.choose.measure:
        return dict(trainer.fit(job, told.progress))
    choice = Choice(job, tokenizer, judge, told, trainer.held_out_feed is not None)
    choice.clear()
    trainer.add_callback(choice)
    trainer.beside = choice.folder
    return dict(trainer.fit(job, told.progress)) | choice.put_back(trainer.model)


def check(job: Job, held_out: int) -> None:
    """Raises DataError where there is nothing to choose by; `held_out` rows are there."""
    if job.section.choose.by == "loss" and not held_out:
        raise DataError(f"{job.stage}.choose.by: loss: there are no held-out rows; set a test_size, or by: last")


class Choice(TrainerCallback):
    """Measures at each moment, keeps the best weights, and puts them back at the end."""

    def __init__(self, job: Job, tokenizer: Any, judge: Judge | None, told: Watch, held_out: bool) -> None:
        """`held_out`: the trainer has held-out rows."""
        check(job, held_out)
        self.section = job.section.choose
        self._by, self._chooses = self.section.measure, self.section.by != "last"
        assert judge is not None or not self.section.judged or ranks.rank()
        self._judge = judge if self.section.judged else None
        self._model = job.model
        self._tokenizer = tokenizer
        self._told = told
        self._progress = told.progress
        self._held_out = held_out
        self.folder = job.work / FOLDER
        self._start: list[str] = []  # the starting model's answers
        self._said: dict[str, list[str]] = {}  # at each step
        self._moments: frozenset[int] = frozenset()
        self._due = False
        self._weighed = ""  # the best weights' digest
        self._waiting: Any = None  # the group of processes that wait
        self.curve = Curve(self._by)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        times = min(self.section.times, state.max_steps)
        self._moments = frozenset(round(state.max_steps * n / times) for n in range(1, times + 1))
        if ranks.processes() > 1:
            import torch

            self._waiting = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        if ranks.rank() == 0:
            self._resume()
            if self._judge and not self._start:
                self._start = self._answers(Engine.load(self._model, ROWS))
                self.curve.start = {"step": 0.0, **self._judge(0, self._start, self._start)}
                self._keep()
        self._agreed(True)
        self._told.go_on()

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._due = state.global_step in self._moments
        if self._due and self._held_out:
            control.should_evaluate = True  # and on_evaluate goes on
        elif self._due:
            self._moment(args, state, control, model, {})

    def on_evaluate(
        self, args: Any, state: Any, control: Any, model: Any = None, metrics: Any = None, **_: Any
    ) -> None:
        if self._due:
            self._moment(args, state, control, model, metrics)
        elif state.global_step == 0 and self._by == "loss":
            self.curve.start = {"step": 0.0, "value": float(metrics["eval_loss"])}
            if ranks.rank() == 0:
                self._keep()  # a training that goes on doesn't measure it again

    def _moment(self, args: Any, state: Any, control: Any, model: Any, metrics: Mapping[str, float]) -> None:
        self._due = stop = False
        if ranks.rank() == 0:
            step = state.global_step
            entry = self.curve.at(step)
            if entry is None:
                entry = self._measured(step, args, model, metrics)
                self._settle(entry, model)
            told = {f"choice/{name}": value for name, value in entry.items() if name != "step"}
            state.log_history.append({**told, "step": step})
            self._progress.metrics(told, step)
            vain = self.curve.in_vain(step)
            stop = self.section.patience is not None and vain >= self.section.patience
            if stop and step < state.max_steps:
                self._progress.note(
                    f"ended after {step} of {state.max_steps} steps: {vain} moment{'s' if vain > 1 else ''} brought"
                    " nothing better"
                )
        if self._agreed(stop):
            control.should_training_stop = True
        self._told.go_on()

    def _measured(self, step: int, args: Any, model: Any, metrics: Mapping[str, float]) -> Entry:
        beside = {name: float(metrics[name]) for name in ("eval_loss", CHOSEN, MARGIN) if name in metrics}
        if self._judge is None:
            return {"step": float(step), "value": beside["eval_loss"], **beside}
        with speaking(model, args) as network:
            said = self._said[str(step)] = self._answers(Engine(network, self._tokenizer, ROWS))
        return {"step": float(step), **self._judge(step, said, self._start), **beside}

    def _settle(self, entry: Entry, model: Any) -> None:
        """Keep a moment, its weights if they are the best, and say what a person should know."""
        said = self.curve.add(entry)
        if self._chooses and self.curve.best is entry:
            from safetensors.torch import save_file

            aside = self.folder / "best.part"
            with disk(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                save_file({name: p.detach().cpu().contiguous() for name, p in _trained(model)}, aside)
                self._weighed = describe_file(aside)["sha256"]
                aside.rename(self._weights(entry))
        self._keep()
        for old in self.folder.glob("*.safetensors"):
            if old != self._weights(self.curve.best):
                old.unlink()
        if said:
            self._progress.note(said)

    def put_back(self, model: Any) -> dict[str, float]:
        """Load the best moment's weights into the model, in every process; returns the figures of the choice."""
        if self._chooses and not self._agreed(ranks.rank() == 0 and self.curve.best is self.curve.moments[-1]):
            self._load(model)
        if ranks.rank():
            return {}
        best, last, by = self.curve.best, self.curve.moments[-1], self._by
        figures = {f"last_{by}": last["value"]}
        if self._chooses:
            figures |= {"chosen_step": best["step"], f"chosen_{by}": best["value"]}
        if self.curve.start:
            figures[f"start_{by}"] = self.curve.start["value"]
        if fell := self.curve.fell_together():
            figures["fell_together_at"] = fell["step"]
        if self.curve.no_better_than_the_start():
            figures["no_better_than_start"] = 1.0
            self._progress.note(
                f"WARNING: no moment's {by} is better than the starting model's {self.curve.start['value']:.4g}"
            )
        if not self._chooses:
            return figures
        rest = "" if best is last else f", {last['value']:.4g} at the last, step {last['step']:.0f}"
        self._progress.note(f"the model is that of step {best['step']:.0f}: {by} {best['value']:.4g}{rest}")
        return figures

    def _load(self, model: Any) -> None:
        import torch
        from safetensors.torch import load_file

        if ranks.rank() == 0 and self._read() is None:
            raise ModelError(f"{self.folder}: damaged while it trained; run again to go on from the newest checkpoint")
        found = load_file(self._weights(self.curve.best)) if ranks.rank() == 0 else {}
        with torch.no_grad():
            for name, parameter in _trained(model):
                if ranks.rank() == 0:
                    parameter.copy_(found[name])
                if self._waiting is not None:
                    torch.distributed.broadcast(parameter.data, 0)

    def _answers(self, engine: Engine) -> list[str]:
        def told(done: int, total: int) -> None:
            self._progress.advance(done, total, "held-out answers")

        assert self._judge is not None
        return answers(engine, self._judge.prompts, self.section.max_tokens, told)

    def _weights(self, entry: Entry) -> Path:
        return self.folder / f"{entry['step']:.0f}.safetensors"

    def _keep(self) -> None:
        with disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            aside = self.folder / f".{STATE}.part"
            found = {"answers": [self._start, self._said], "start": self.curve.start, "moments": self.curve.moments}
            aside.write_text(json.dumps(found | {"sha256": self._weighed}))
            aside.rename(self.folder / STATE)

    def clear(self) -> None:
        """Leave no damaged folder: the checkpoint that the training goes on from brings its own."""
        if ranks.rank() == 0 and self.folder.exists() and self._read() is None:
            self._progress.note(f"{self.folder}: damaged; the newest checkpoint's is taken, or it is measured again")
            shutil.rmtree(self.folder)

    def _read(self) -> dict[str, Any] | None:
        """What was kept; None where it can't be read, or the best weights aren't as they were written."""
        try:
            found: dict[str, Any] = json.loads((self.folder / STATE).read_text())
            curve = Curve(self._by, found["start"], found["moments"])
            kept = self._weights(curve.best) if self._chooses and curve.moments else None
            if kept and describe_file(kept)["sha256"] != found["sha256"]:
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found

    def _resume(self) -> None:
        found = self._read()
        if found:
            self._start, self._said = found["answers"]
            self._weighed = found["sha256"]
            self.curve = Curve(self._by, found["start"], found["moments"])
            for step, said in {"0": self._start, **self._said}.items():
                if self._judge:  # the replies are in the journal: this only counts what they have cost
                    self._judge(int(step), said, self._start)

    def _agreed(self, word: bool) -> bool:
        """The first process's word, in all of them."""
        if self._waiting is None:
            return word
        import torch

        words = [word]
        torch.distributed.broadcast_object_list(words, 0, group=self._waiting)
        return words[0]


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


@contextmanager
def speaking(model: Any, args: Any) -> Iterator[Any]:
    """The network in a state to answer: no dropout, an attention that knows the cache, adapters in place."""
    import torch

    network = model.get_base_model() if hasattr(model, "get_base_model") else model
    attention, training = network.config._attn_implementation, model.training
    kind = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    network.set_attn_implementation("sdpa")
    model.eval()
    try:
        with torch.autocast(network.device.type, kind or torch.bfloat16, enabled=kind is not None):
            yield network
    finally:
        network.set_attn_implementation(attention)
        model.train(training)


def answers(engine: Engine, prompts: Sequence[str], most: int, told: Callable[[int, int], None]) -> list[str]:
    """The likeliest answer to each prompt, of at most `most` tokens; none where the prompt fills the context."""
    from zephyr.data import template

    ids = [template.encode_prompt(engine.tokenizer, [{"role": "user", "content": prompt}]) for prompt in prompts]
    asked = [Said(prompt, most) for prompt in ids]
    fitting = [sequence for sequence in asked if len(sequence.prompt) < engine.context]
    for sequence in sorted(fitting, key=lambda s: len(s.prompt)):
        engine.add(sequence)
    done = len(asked) - len(fitting)
    while done < len(asked):
        done += sum(sequence.finish_reason is not None for sequence in engine.step())
        told(done, len(asked))
    return [engine.tokenizer.decode(s.tokens, skip_special_tokens=True).strip() for s in asked]
