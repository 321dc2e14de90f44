"""dSFT: completion-only training on the teacher's dialogues (paper, section 3, equation 1)."""

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.data import template
from zephyr.errors import DataError
from zephyr.progress import Progress
from zephyr.schema import Dialogue
from zephyr.train.job import Job

IGNORED = -100  # the label that cross entropy leaves out


def train(job: Job, progress: Progress) -> dict[str, float]:
    """Train the model in folder `job.model`; write the result to `job.out`, checkpoints to `job.work`.

    Returns train_loss, eval_loss_before and eval_loss (held out, before and after the training; mean per trained
    token, in nats) and the count of dialogues cut or dropped.
    """
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    from zephyr.train import adapters, arguments, watch
    from zephyr.train import model as models
    from zephyr.train.checkpoints import Checkpointed

    class Trainer(Checkpointed, SFTTrainer):
        pass

    disable_progress_bars()
    recipe, work, out = job.recipe, job.work, job.out
    network, tokenizer = models.load(job.model, recipe, job.section)
    rows, lost = encode(tokenizer, _dialogues(job, "train"), recipe.sft.max_length)
    held_out, _ = encode(tokenizer, _dialogues(job, "test"), recipe.sft.max_length)
    if not rows:
        raise DataError(f"sft: no dialogue fits into sft.max_length {recipe.sft.max_length} tokens; raise it")
    options = arguments.shared(recipe, recipe.sft, "sft", len(rows), work)
    config = SFTConfig(
        **options,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        eval_on_start=bool(held_out),
    )
    told = watch.Watch(progress, "dialogues", recipe.sft.global_batch_size)
    trainer = Trainer(
        model=network,
        args=config,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(held_out) if held_out else None,
        processing_class=tokenizer,
        callbacks=[told],
        peft_config=adapters.config(job, network),
    )
    figures = {**trainer.fit(job, progress), **lost}
    if held_out:
        start = next(entry for entry in trainer.state.log_history if "eval_loss" in entry)
        figures["eval_loss_before"] = float(start["eval_loss"])
        figures["eval_loss"] = float(trainer.evaluate()["eval_loss"])
    watch.keep_history(trainer, out)
    figures |= models.save(trainer.model, tokenizer, job)
    return figures


def _dialogues(job: Job, split: Any) -> list[Any]:
    return [row | {"messages": row[job.messages]} for row in job.rows(split)]


def encode(
    tokenizer: Any, dialogues: Sequence[Dialogue], max_length: int
) -> tuple[list[dict[str, Any]], Mapping[str, float]]:
    """Token ids and labels of each dialogue, cut at `max_length`; one with nothing left to train is dropped."""
    rows = []
    cut = dropped = 0
    for dialogue in dialogues:
        ids, mask = template.encode(tokenizer, dialogue["messages"])
        cut += len(ids) > max_length
        ids, mask = ids[:max_length], mask[:max_length]
        if not any(mask):
            dropped += 1
            continue
        labels = [token if on else IGNORED for token, on in zip(ids, mask, strict=True)]
        rows.append({"input_ids": ids, "labels": labels})
    return rows, {"cut": float(cut), "dropped": float(dropped)}
