"""What a kind of task is: phrasings with named slots, and functions that solve it.

Drawing an instance, reading it back from a prompt's text and telling right from wrong all follow from these.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from random import Random

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Turn:
    """What is right and wrong in one turn."""

    answers: tuple[str, ...]
    """Right answers, each a whole sentence."""
    mistakes: tuple[str, ...]
    """Plausible wrong answers, in the form of the right ones."""
    required: tuple[str, ...]
    """Words that every right answer holds."""
    forbidden: frozenset[str]
    """Words that no right answer holds."""


@dataclass(frozen=True)
class Kind:
    """A kind of task: phrasings of both turns, how to draw the values of their slots, how to solve them."""

    family: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    draw: Callable[[Random], dict[str, str]]
    solve_first: Callable[[Fields], Turn]
    solve_second: Callable[[Fields], Turn]
    other: Callable[[Fields], str] | None = None
    """The value of a second turn's slot `other`, which follows from the first turn; its further slots are free."""


def turn(forms: Iterable[str], value: str, others: Iterable[str]) -> Turn:
    """A turn whose answers are `forms` around one `value`; any of `others` is wrong there."""
    forms, others = tuple(forms), tuple(other for other in others if other != value)
    return Turn(
        answers=tuple(form.format(value) for form in forms),
        mistakes=tuple(form.format(other) for form in forms for other in others),
        required=(value,),
        forbidden=frozenset(others),
    )


def cross(starts: Iterable[str], ends: Iterable[str]) -> tuple[str, ...]:
    return tuple(start + end for start, end in product(starts, ends))
