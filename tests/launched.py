"""A training as a step launches it, in a process of its own: `python -m tests.launched JOB PROGRESS`."""

import sys
from pathlib import Path

from zephyr.progress import Progress
from zephyr.train import launch
from zephyr.train.job import Job

if __name__ == "__main__":
    job = Job.from_json(Path(sys.argv[1]).read_text())
    launch.train(job, Progress(job.step, Path(sys.argv[2])))
