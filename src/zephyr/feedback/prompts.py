"""What the judge is asked: UltraFeedback's four aspects and its critique, in our own words."""

from collections.abc import Sequence

from zephyr.feedback.forms import Critique, Ratings
from zephyr.schema import Completion, Prompt

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

TYPES: dict[str, dict[str, str]] = {
    "truthfulness": {
        "world": "says what is known to be false",
        "instruction": "disagrees with the instruction or its material, or adds to it",
        "itself": "contradicts itself, or draws conclusions that don't follow",
    },
    "helpfulness": {
        "unclear": "hard to follow, or beside the question",
        "thin": "leaves out what the person needs: facts, steps, reasons",
        "long": "longer than it need be, or says things twice",
    },
}
"""Kinds of fault, by aspect."""

AGAIN = (
    "# Write it again\n\nYour reply can not be read. Give the same judgement once more, in this form and with "
    "nothing before or after it:\n\n"
)


def types_of(aspect: str) -> tuple[str, ...]:
    """Names of the kinds of fault that an aspect knows."""
    return tuple(TYPES.get(aspect, ()))


def assessment(aspect: str, instruction: str, texts: Sequence[str], form: Ratings, known: str = "") -> str:
    """The judge's prompt for one aspect of texts, in the order they are shown."""
    goal, indicators, rubric = GUIDES[aspect]
    shown = "\n".join(_tagged(f"text {i}", text) for i, text in enumerate(texts, start=1))
    levels = "\n".join(f"{points}. {level}" for points, level in enumerate(rubric, start=1))
    kinds = "".join(f"- {name}: {TYPES[aspect][name]}\n" for name in form.types)
    return (
        f"# Assessment: {aspect}\n\n{goal}\nLook for: {indicators}.\n\n"
        + (f"Types of fault:\n{kinds}\n" if kinds else "")
        + f"Ratings:\n{levels}\nWrite N/A where the aspect does not apply.\n\n"
        f"{_tagged('instruction', instruction)}\n\n{known}{shown}\n\n{form.asks()}"
    )


def critique(completion: Completion, form: Critique, known: str = "") -> str:
    """The judge's prompt for the critique and overall score of one completion."""
    told = completion["system_prompt"]
    system = f"{_tagged('system prompt', told)}\n\n" if told else ""
    return (
        "# Critique\n\nTell the writer of the text how to do better: what is weak in it, why, and what to change. "
        "Look at all of it: whether it does what was asked, whether it is true, as sure as it may be, and of use. "
        "Ask for nothing that the instruction doesn't ask for, and don't write the better text yourself.\n"
        "Then grade the text as a whole, from 1 (of no use) to 10 (could not be better).\n\n"
        f"{_tagged('instruction', completion['prompt'])}\n\n{system}{known}"
        f"{_tagged('text 1', str(completion['response']))}\n\n{form.asks()}"
    )


def knowledge(prompt: Prompt, note: str | None) -> str:
    """What the judge may know beside the instruction, as a part of its prompt; "" where there is nothing."""
    notes = [text for text in (note, prompt["note"]) if text]
    parts = [
        ("Right answers, not all of them", [f"- {text}" for text in prompt["correct_answers"]]),
        ("Wrong answers, not all of them", [f"- {text}" for text in prompt["incorrect_answers"]]),
        ("A right answer", [prompt["reference"]] if prompt["reference"] else []),
        ("Note", notes),
    ]
    said = "\n".join(f"{title}:\n" + "\n".join(lines) for title, lines in parts if lines)
    return f"{_tagged('known', said)}\n\n" if said else ""


def _tagged(name: str, text: str) -> str:
    return f"<{name}>\n{text}\n</{name}>"
