"""What of Zephyr's own words decides an evaluation: a part of its key, so that a release that changes them finds no old
outcome."""

import hashlib

from zephyr.data.rules import prose
from zephyr.evals import judge
from zephyr.evals.alpaca import verdicts
from zephyr.evals.safety import judging, refusals


def digests() -> dict[str, str]:
    """SHA-256 (hex) of each prompt of ours to a judge, and of the patterns that tell a refusal."""
    own = {
        "grades": judge.own(),
        "comparison": judge.comparison("", "", ""),
        "letter": verdicts.letter("", "", ""),
        "outcome": judging.question("", ""),
        "refusals": [refusals.BEGINNING, refusals.REFUSAL.pattern, prose.OTHER.pattern],
    }
    return {name: hashlib.sha256(repr(words).encode()).hexdigest() for name, words in own.items()}
