"""dSFT: completion-only training on the teacher's dialogues (paper, section 3, equation 1).

A micro-batch is one flat row of whole dialogues without padding, of which each sees itself alone, and the model's last
matrix meets trained positions only. Packing says which dialogues make a step, not how they are computed.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from zephyr.progress import Progress, plural
from zephyr.train import adapters, arguments, batches, cutting, packing, ranks
from zephyr.train import model as models
from zephyr.train.forward import attention, head
from zephyr.train.job import Job
from zephyr.train.loop import Batch, Feed, Loop
from zephyr.train.rows import Rows, encode
from zephyr.train.saving.checkpoints import Checkpointed
from zephyr.train.watching import choice, watch

IGNORED = -100  # the label of a token that isn't trained


class Trainer(Loop, Checkpointed, SFTTrainer):
    """TRL's trainer on micro-batches of `flat` or of `filled`."""

    def micro_loss(self, model: Any, batch: Batch) -> Any:
        if "segments" in batch:
            return -model(**batch).sum()
        found = model(**batch, fused_lm_head=True)
        loss = -found.log_probs.sum()
        if self.aux_loss_enabled and model.training:  # experts' balance is of a micro-batch: weighted by its tokens
            loss = loss + self.router_aux_loss_coef * found.aux_loss * found.label_mask.sum()
        return loss


def train(job: Job, progress: Progress, judge: choice.Judge | None = None) -> dict[str, float]:
    """Train the model in folder `job.model`; write the result to `job.out`, checkpoints to `job.work`.

    Returns train_loss, eval_loss_before and eval_loss (held out, before and after the training; mean per trained
    token, in nats), the counts of dialogues cut and dropped, and what the training's speed was.
    """
    network, tokenizer = models.load(job.model, job.recipe, job.section)
    rows = encode(job, tokenizer, "train", note=progress.note)
    held_out = encode(job, tokenizer, "test", note=progress.note)
    trainer, told = prepared(job, network, tokenizer, rows, held_out, progress)
    figures = choice.fit(trainer, job, tokenizer, judge, told)
    figures |= {name: rows.counts[name] for name in ("cut", "dropped")}
    if len(held_out):
        start = next(entry for entry in trainer.state.log_history if "eval_loss" in entry)
        figures["eval_loss_before"] = float(start["eval_loss"])
        figures["eval_loss"] = trainer.evaluate()["eval_loss"]
    watch.keep_history(trainer, job.out)
    return figures | told.figures | models.save(trainer.model, tokenizer, job)


def prepared(
    job: Job, network: Any, tokenizer: Any, rows: Rows, held_out: Rows, progress: Progress
) -> tuple[Trainer, watch.Watch]:
    """A trainer at its first step, and what watches it."""
    section = job.recipe.sft
    cutting.check(job.stage, section, len(rows), rows.counts)
    longest = max(int(each.longest.max(initial=0)) for each in (rows, held_out))
    attention.check(network.config, longest, job.stage)
    padded = _must_pad(job, network, longest, progress)
    pack = packing.best_fit(rows.sizes, section.max_length) if section.packing == "best_fit" else None
    plan = packing.PackedSteps(
        pack or packing.alone(rows.sizes),
        rows.sizes,
        section.global_batch_size,
        ranks.processes(),
        section.device_tokens,
        section.epochs,
        job.recipe.seed,
        padded,
    )
    if pack:
        fill = pack.sizes.sum() / (len(pack) * section.max_length)
        counts = f"{plural(len(rows), 'dialogue')} packed into {plural(len(pack), 'row')}"
        progress.note(f"{counts}, {fill:.1%} full: {plural(len(plan), 'step')}")
    measured = (
        batches.whole(held_out.sizes, ranks.processes(), section.device_tokens, padded) if len(held_out) else None
    )
    told = watch.Watch(
        progress, "dialogues", len(rows) / plan.per_epoch, watch.Load.of(plan, rows.sizes, padded=padded)
    )
    collate = partial(filled, pad=tokenizer.pad_token_id) if padded else flat
    stand_in = Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]})  # TRL looks at a row; Loop brings its own
    trainer = Trainer(
        model=network,
        args=SFTConfig(
            **arguments.of(job, plan, held_out=measured is not None), dataset_kwargs={"skip_prepare_dataset": True}
        ),
        train_dataset=stand_in,
        processing_class=tokenizer,
        callbacks=[told],
        peft_config=adapters.config(job, network),
        feed=_feed(rows, plan, collate),
        held_out=_feed(held_out, measured, collate) if measured else None,
    )
    return trainer, told


def flat(rows: Rows, chosen: np.ndarray) -> Batch:
    """Dialogues as one row without padding; `at` are positions whose next token is trained, `targets` these tokens."""
    texts = [rows.dialogue(int(row)) for row in chosen]
    starts = np.cumsum([0, *(len(ids) for ids, _ in texts[:-1])])
    at = np.concatenate([start + np.flatnonzero(mask[1:]) for start, (_, mask) in zip(starts, texts, strict=True)])
    targets = np.concatenate([ids[1:][mask[1:]] for ids, mask in texts]).astype(np.int64)
    layout = attention.documents([ids for ids, _ in texts])
    return layout | {"at": torch.from_numpy(at), "targets": torch.from_numpy(targets)}


def filled(rows: Rows, chosen: np.ndarray, pad: int) -> Batch:
    """Dialogues as a row each, filled up on the right, as TRL has them: all [rows, longest]."""
    texts = [rows.dialogue(int(row)) for row in chosen]
    shape = (len(texts), max(len(ids) for ids, _ in texts))
    ids, seen, labels = np.full(shape, pad, np.int64), np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
    for row, (text, trained) in enumerate(texts):
        ids[row, : len(text)], seen[row, : len(text)] = text, 1
        labels[row, : len(text)][trained] = text[trained]
    arrays = {"input_ids": ids, "attention_mask": seen, "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _feed(rows: Rows, plan: batches.Steps, collate: Callable[[Rows, np.ndarray], Batch]) -> Feed:
    return Feed(plan, partial(collate, rows), lambda step: float(rows.trained[plan.chosen(step)].sum()))


def _must_pad(job: Job, network: Any, longest: int, progress: Progress) -> bool:
    """Whether rows must be padded; otherwise the model is given attention for each dialogue alone."""
    asked = job.recipe.model.attention
    reason = attention.fits(network.config, longest) if asked == "auto" else f"model.attention is {asked}"
    if reason:
        progress.note(f"dialogues are padded to the longest of a batch: {reason}")
        return True
    network.set_attn_implementation(attention.NAME)
    head.install(network)
    return False
