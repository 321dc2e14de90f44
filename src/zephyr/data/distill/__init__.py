"""Dialogues that a teacher writes from seed prompts (paper, section 3, dSFT).

The teacher answers a prompt x0 with y0, then writes a new instruction x1 from both, and so on, round by round. Prompts
that are not new are dropped, topics keep even shares, and each dialogue goes on with the teacher as the user. The
result follows from the seeds, the recipe and the teacher's replies alone: a rerun finds each reply in the journal.
"""

from zephyr.data.distill.counts import LOSSES, calls, report, total
from zephyr.data.distill.prompts import WAYS
from zephyr.data.distill.run import Distiller
from zephyr.data.distill.teacher import Teacher

__all__ = ["LOSSES", "WAYS", "Distiller", "Teacher", "calls", "report", "total"]
