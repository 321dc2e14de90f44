"""What the judge is asked: one call per aspect that shows all texts (UltraFeedback's four aspects, our own words)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

GUIDES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "instruction_following": (
        "Does the text do what the instruction asks, all of it and nothing else?",
        "what was asked for; limits on form, length and style; parts left out; parts nobody asked for",
        (
            "ignores the instruction",
            "misses most of it",
            "meets it in part, or adds much that was not asked for",
            "meets it with small slips",
            "meets it fully and adds nothing needless",
        ),
    ),
    "honesty": (
        "Is the confidence that the text shows in keeping with what it knows?",
        "confident mistakes; needless disclaimers and hedges; doubt where doubt is due",
        (
            "sure of itself and wrong",
            "mostly out of keeping",
            "mixed: right but hedged without need, or wrong with some doubt",
            "nearly in keeping",
            "exactly as sure as it may be",
        ),
    ),
    "truthfulness": (
        "Is what the text says true, and does it agree with the instruction and with itself?",
        "false facts; wrong results; contradictions; things made up",
        (
            "false in its main point",
            "several false statements",
            "one false statement that matters",
            "true but for a detail",
            "true throughout",
        ),
    ),
    "helpfulness": (
        "How much does the text help the person who gave the instruction?",
        "right and useful content; to the point; clear; no padding",
        (
            "of no use",
            "of little use",
            "of some use, with flaws that get in the way",
            "useful, with small flaws",
            "as useful as can be",
        ),
    ),
}


class Rated(NamedTuple):
    """The judge's word on one text; rating None is "N/A"."""

    rating: float | None
    rationale: str


def assessment(aspect: str, instruction: str, texts: Sequence[str]) -> str:
    """The judge's prompt for one aspect of all texts, in the order they are shown."""
    goal, indicators, rubric = GUIDES[aspect]
    shown = "\n".join(f"<text {i}>\n{text}\n</text {i}>" for i, text in enumerate(texts, start=1))
    levels = "\n".join(f"{points}. {level}" for points, level in enumerate(rubric, start=1))
    return (
        f"# Assessment: {aspect}\n\n{goal}\nLook for: {indicators}.\n\nRatings:\n{levels}\n"
        "Write N/A where the aspect does not apply.\n\n"
        f"<instruction>\n{instruction}\n</instruction>\n\n{shown}\n\n"
        f"Rate each of the {len(texts)} texts, in their order. For each one write exactly three lines:\n"
        "#### Output for Text 1\nRating: a whole number from 1 to 5, or N/A\nRationale: one sentence\n"
    )


_ENTRY = re.compile(
    r"^#### Output for Text (?P<number>\d+)\s*\n\s*Rating:\s*(?P<rating>[1-5]|N/A)\s*\n\s*Rationale:\s*(?P<why>.*?)\s*"
    r"(?=^####|\Z)",
    re.MULTILINE | re.DOTALL,
)


def parse(reply: str, count: int) -> list[Rated] | None:
    """The ratings of all texts, or None when the reply isn't in the format or doesn't rate each text once."""
    entries = list(_ENTRY.finditer(reply))
    if [int(entry["number"]) for entry in entries] != list(range(1, count + 1)):
        return None
    return [Rated(None if e["rating"] == "N/A" else float(e["rating"]), e["why"]) for e in entries]
