"""dDPO: direct preference optimization on the judge's pairs (paper, section 3, equation 2)."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from zephyr.data import template
from zephyr.errors import DataError
from zephyr.intervals import wilson
from zephyr.progress import Progress
from zephyr.schema import Pair
from zephyr.sections import Dpo
from zephyr.train.job import Job

ACCURACY = "eval_rewards/accuracies"


def train(job: Job, progress: Progress) -> dict[str, float]:
    """Train the model in folder `job.model`, which is also the reference; write the result to `job.out`.

    Returns train_loss, and on the held-out pairs (eval_pairs of them) eval_loss and
    eval_rewards/{chosen,rejected,margins,accuracies}, the accuracy with its 95% interval.
    """
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer

    from zephyr.train import adapters, arguments, watch
    from zephyr.train import model as models
    from zephyr.train.checkpoints import Checkpointed

    sizes: list[int] = []  # pairs in each batch of an evaluation

    class Trainer(Checkpointed, DPOTrainer):
        """TRL's trainer on rows that are token ids already: its own tokenisation trains a newline after EOS."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool) -> Any:
            if not self.model.training:
                sizes.append(len(inputs["input_ids"]) // 2)
            return super()._compute_loss(model, inputs, return_outputs)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            """TRL averages the means of batches; of pairs, when the last batch is smaller, that is no mean."""
            if not self.model.training:
                for name, values in self._metrics["eval"].items():
                    if len(values) == len(sizes):
                        mean = sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
                        self._metrics["eval"][name] = [mean]
                sizes.clear()
            super().log(logs, start_time)

    disable_progress_bars()
    recipe, work, out = job.recipe, job.work, job.out
    network, tokenizer = models.load(job.model, recipe, job.section)
    rows, lost = encode(tokenizer, cast(Any, list(job.rows("train"))), recipe.dpo)
    held_out, _ = encode(tokenizer, cast(Any, list(job.rows("test"))), recipe.dpo)
    if not rows:
        raise DataError("dpo: no pair fits into dpo.max_length; raise it or dpo.max_prompt_length")
    config = DPOConfig(
        **arguments.shared(recipe, recipe.dpo, "dpo", len(rows), work),
        beta=recipe.dpo.beta,
        loss_type=[recipe.dpo.loss],
        # Once per run instead of in every step. TRL's cache of them can't go stale here: the rows live in memory.
        precompute_ref_log_probs=True,
    )
    told = watch.Watch(progress, "pairs", recipe.dpo.global_batch_size)
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
        found = trainer.evaluate()
        wanted = ("eval_loss", *(f"eval_rewards/{name}" for name in ("chosen", "rejected", "margins", "accuracies")))
        figures |= {name: float(found[name]) for name in wanted}
        low, high = wilson(figures[ACCURACY], len(held_out))
        figures |= {"eval_pairs": float(len(held_out)), f"{ACCURACY}_low": low, f"{ACCURACY}_high": high}
    watch.keep_history(trainer, out)
    figures |= models.save(trainer.model, tokenizer, job)
    return figures


def encode(
    tokenizer: Any, pairs: Sequence[Pair], section: Dpo
) -> tuple[list[dict[str, list[int]]], Mapping[str, float]]:
    """Token ids of each pair; completions are cut at `max_length`, pairs that leave no completion are dropped."""
    rows = []
    cut = dropped = 0
    for pair in pairs:
        prompt = template.encode_prompt(tokenizer, pair["chosen"][:-1])
        sides = [template.encode(tokenizer, pair[side])[0][len(prompt) :] for side in ("chosen", "rejected")]
        room = section.max_length - len(prompt)
        if len(prompt) > section.max_prompt_length or room < 1 or not all(len(side) > 1 for side in sides):
            dropped += 1
            continue
        cut += any(len(side) > room for side in sides)
        rows.append({"prompt_ids": prompt, "chosen_ids": sides[0][:room], "rejected_ids": sides[1][:room]})
    return rows, {"cut": float(cut), "dropped": float(dropped)}
