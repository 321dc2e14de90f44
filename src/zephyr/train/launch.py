"""Where a training runs: in this process, in several of this machine, or in the pods of a TrainJob."""

from zephyr.progress import Progress
from zephyr.train.job import Job


def train(job: Job, progress: Progress) -> dict[str, float]:
    """Train as the recipe says; returns the figures of the training."""
    from zephyr.train import dpo, sft

    return sft.train(job, progress) if job.stage == "sft" else dpo.train(job, progress)
