"""dDPO: direct preference optimization on the judge's pairs (paper, section 3, equation 2).

TRL's losses as they are, on log-probabilities of our own: prompts are computed once, nothing is padded, and the
reference's side comes from the store.
"""

import copy
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from zephyr.data import template
from zephyr.intervals import wilson
from zephyr.progress import Progress
from zephyr.train import adapters, arguments, batches, cutting, ranks, reference
from zephyr.train import model as models
from zephyr.train.batches import Steps
from zephyr.train.forward import attention, pairs
from zephyr.train.job import Job
from zephyr.train.loop import Batch, Feed, Loop
from zephyr.train.rows import Rows, encode
from zephyr.train.saving.checkpoints import Checkpointed
from zephyr.train.watching import choice, curve, watch

ACCURACY = "eval_rewards/accuracies"
MEASURED = ("eval_loss", *(f"eval_rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies")))


class Trainer(Loop, Checkpointed, DPOTrainer):
    """TRL's trainer on micro-batches of a layout of `zephyr.train.forward.pairs`."""

    def __init__(self, *args: Any, layout: pairs.Layout, **kwargs: Any) -> None:
        self.layout = layout
        super().__init__(*args, **kwargs)
        # TRL's loss measures on its way, with a collective or a wait for the device for each number: here in vain.
        self._losses = copy.copy(self)
        self._losses.accelerator = _Alone(self.accelerator.device)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def micro_loss(self, model: Any, batch: Batch) -> Any:
        experts = {"output_router_logits": True} if self.aux_loss_enabled else {}
        found = self.layout.outputs(model, batch, **experts)
        mask, logps = batch["completion_mask"], found.log_probs
        shown = dict.fromkeys(("entropy", "mean_logits", "is_top1"), torch.zeros_like(logps, dtype=torch.bool))
        outputs = SimpleNamespace(log_probs=logps, aux_loss=found.aux_loss, **shown)
        inputs = {name: batch[name] for name in pairs.TO_LOSS} | {"input_ids": mask, "attention_mask": mask}
        self._losses._metrics = defaultdict(lambda: defaultdict(list))
        mean = DPOTrainer._compute_loss(self._losses, lambda **_: outputs, inputs, False)
        count = len(mask) // 2
        for name, values in self._measures(logps.detach().sum(1), batch).items():
            self.add(name, values.sum(), count)
        return mean * count

    def _measures(self, logps: Any, batch: Batch) -> dict[str, Any]:
        """Of each pair."""
        chosen, rejected = logps.chunk(2)
        good = self.beta * (chosen - batch["ref_chosen_logps"])
        bad = self.beta * (rejected - batch["ref_rejected_logps"])
        return {
            "rewards/chosen": good,
            "rewards/rejected": bad,
            "rewards/margins": good - bad,
            "rewards/accuracies": (good > bad).float(),
            "logps/chosen": chosen,
            "logps/rejected": rejected,
        }


class _Alone:
    """For TRL's loss: an accelerator whose sums over processes are 0 and wait for nothing."""

    def __init__(self, device: Any) -> None:
        self.device = device

    def gather(self, _: Any) -> Any:
        return torch.zeros(1)

    gather_for_metrics = gather


def train(job: Job, progress: Progress, judge: choice.Judge | None = None) -> dict[str, float]:
    """Train the model in folder `job.model`, which is also the reference; write the result to `job.out`.

    Returns train_loss, and on the held-out pairs (eval_pairs of them) eval_loss and
    eval_rewards/{chosen,rejected,margins,accuracies}, the accuracy with its 95% interval. length_gap: tokens that the
    chosen completions are longer than the rejected ones, on average.
    """
    tokenizer = template.tokenizer_of(job.model)
    rows = encode(job, tokenizer, "train", note=progress.note)
    held_out = encode(job, tokenizer, "test", note=progress.note)
    choice.check(job, len(held_out))
    cutting.check(job.stage, job.recipe.dpo, len(rows), rows.counts)
    trainer, told = prepared(job, rows, held_out, progress)
    figures = choice.fit(trainer, job, tokenizer, judge, told)
    figures |= {name: rows.counts[name] for name in ("cut", "dropped", "identical")} | {"length_gap": rows.length_gap}
    if len(held_out):
        figures |= measured(trainer.evaluate(), len(held_out))
        if not job.section.choose.measure and (said := curve.explained(figures)):  # else it was said at the moments
            progress.note(said)
    watch.keep_history(trainer, job.out)
    return figures | told.figures | models.save(trainer.model, tokenizer, job)


def measured(found: Mapping[str, float], count: int) -> dict[str, float]:
    low, high = wilson(found[ACCURACY], count)
    bounds = {"eval_pairs": float(count), f"{ACCURACY}_low": low, f"{ACCURACY}_high": high}
    return {name: float(found[name]) for name in MEASURED} | bounds


def prepared(job: Job, rows: Rows, held_out: Rows, progress: Progress) -> tuple[Trainer, watch.Watch]:
    """A trainer at its first step, with the reference's log-probabilities, and what watches it."""
    section = job.recipe.dpo
    longest = max(int(each.longest.max(initial=0)) for each in (rows, held_out))
    layout = _layout(job, longest, progress)
    plan = batches.plan(
        _sizes(layout, rows),
        section.global_batch_size,
        ranks.processes(),
        section.device_tokens,
        section.epochs,
        job.recipe.seed,
        layout.padded,
    )
    args = DPOConfig(
        # Of a training whose weights are chosen by loss, the reference's own is what they must beat.
        **arguments.of(job, plan, held_out=section.choose.by == "loss"),
        beta=section.beta,
        loss_type=[section.loss],
        label_smoothing=section.label_smoothing,
        precompute_ref_log_probs=True,  # they are in the batches
    )
    network, tokenizer = models.load(job.model, job.recipe, job.section)
    layout.prepare(network)
    lora = adapters.config(job, network)  # what is wrong with it shall not cost the reference's pass
    load = watch.Load.of(plan, rows.sizes, rows.trained, layout.padded)
    told = watch.Watch(progress, "pairs", len(rows) / plan.per_epoch, load)
    feed = partial(_feed, job, network, layout, progress)
    measured = batches.whole(_sizes(layout, held_out), ranks.processes(), section.device_tokens, layout.padded)
    trainer = Trainer(
        layout=layout,
        model=network,
        args=args,
        train_dataset=Dataset.from_dict({"input_ids": [[0]]}),  # TRL looks at a row; Loop brings its own
        processing_class=tokenizer,
        callbacks=[told],
        peft_config=lora,
        feed=feed(rows, plan),
        held_out=feed(held_out, measured) if len(held_out) else None,
    )
    return trainer, told


def _layout(job: Job, longest: int, progress: Progress) -> pairs.Layout:
    """Flat rows where the architecture allows them, else padded ones."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(job.model)
    attention.check(config, longest, job.stage)
    reason = f"model.attention is {job.recipe.model.attention}"
    if job.recipe.model.attention == "auto":
        found = attention.fits(config, longest)
        if found is None:
            return pairs.Flat()
        reason = found
    progress.note(f"pairs are padded, and each prompt is computed twice: {reason}")
    return pairs.Padded(template.tokenizer_of(job.model).pad_token_id)


def _sizes(layout: pairs.Layout, rows: Rows) -> np.ndarray:
    """Tokens that a pair takes."""
    return 2 * rows.longest if layout.padded else rows.sizes


def _feed(job: Job, network: Any, layout: pairs.Layout, progress: Progress, rows: Rows, plan: Steps) -> Feed:
    scored, sizes = pairs.scores(layout, rows), _sizes(layout, rows)
    logps = reference.logps(job, rows, network, scored, progress, layout.padded, sizes)
    return Feed(plan, pairs.collate(layout, rows, logps), lambda step: float(plan.rows(step)))
