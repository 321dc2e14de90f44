"""One machine of a training on several, as a node of a TrainJob: `python -m tests.machines JOB RANK COUNT PORT`."""

import sys
from pathlib import Path

from zephyr.progress import Progress
from zephyr.train.job import Job
from zephyr.train.launch import Nodes, several

if __name__ == "__main__":
    job, rank, count = Job.from_json(Path(sys.argv[1]).read_text()), int(sys.argv[2]), int(sys.argv[3])
    several(job, Progress(job.step, job.work / "progress.jsonl"), 1, Nodes(rank, count, f"127.0.0.1:{sys.argv[4]}"))
