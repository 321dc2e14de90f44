"""The forms of the judge's replies: how each is asked for, as text or as JSON, and how it is read.

Reading is strict. A reply that is not in its form is no reply; nothing in it is scaled, guessed or made to fit, so that
a 1 can't become a 10.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

NONE = "none"
"""The type of a text without fault."""


class Rated(NamedTuple):
    """The judge's word on one text; rating None is "N/A"."""

    rating: float | None
    rationale: str
    type: str | None = None


def score(text: str, most: int) -> float | None:
    """The number from 1 to `most` that a text is ("7", "7.0", "7.5", "7/10"), or None."""
    found = re.fullmatch(r"([0-9]{1,2}(?:\.[0-9]{1,2})?)(?: ?/ ?([0-9]{1,2}))?", text.strip())
    if found is None or (found[2] is not None and int(found[2]) != most):
        return None
    value = float(found[1])
    return value if 1 <= value <= most else None


@dataclass(frozen=True)
class Ratings:
    """A whole number from 1 to 5, or N/A, for each of `count` texts, and with `types` the kinds of its faults."""

    count: int
    types: tuple[str, ...] = ()
    as_json: bool = False

    def asks(self) -> str:
        each = "the text" if self.count == 1 else f"each of the {self.count} texts, in their order"
        if self.as_json:
            types = f'"type": ["{NONE}"] or those of {json.dumps(list(self.types))} that fit, ' if self.types else ""
            last = f', and so on to "text_{self.count}"' if self.count > 1 else ""
            return (
                f"Rate {each}. Reply with one JSON object and nothing else:\n"
                f'{{"text_1": {{{types}"rating": "1" to "5", or "N/A", "rationale": "one sentence"}}{last}}}\n'
            )
        lines = "four" if self.types else "three"
        types = f"Type: {NONE}, or those of {', '.join(self.types)} that fit\n" if self.types else ""
        return (
            f"Rate {each}. {'W' if self.count == 1 else 'For each one w'}rite exactly {lines} lines:\n"
            f"#### Output for Text 1\n{types}Rating: a whole number from 1 to 5, or N/A\nRationale: one sentence\n"
        )

    def schema(self) -> Mapping[str, Any] | None:
        if not self.as_json:
            return None
        types = {"type": {"type": "array", "items": {"type": "string", "enum": [NONE, *self.types]}}}
        fields: dict[str, Any] = types if self.types else {}
        fields = fields | {
            "rating": {"type": "string", "enum": ["1", "2", "3", "4", "5", "N/A"]},
            "rationale": {"type": "string"},
        }
        return _object({f"text_{number}": _object(fields) for number in range(1, self.count + 1)})

    def read(self, reply: str) -> list[Rated] | None:
        """One entry per text, or None when the reply isn't in the form or doesn't rate each text once."""
        entries = self._of_json(reply) if self.as_json else self._of_text(reply)
        if entries is None or len(entries) != self.count:
            return None
        rated = [self._entry(*entry) for entry in entries]
        return None if None in rated else [entry for entry in rated if entry is not None]

    def _of_text(self, reply: str) -> list[tuple[str, str, list[str]]] | None:
        found = list(_ENTRY.finditer(reply))
        if [int(entry["number"]) for entry in found] != list(range(1, self.count + 1)):
            return None
        return [(e["rating"].strip(), e["why"].strip(), _listed(e["type"] or "")) for e in found]

    def _of_json(self, reply: str) -> list[tuple[str, str, list[str]]] | None:
        texts = _loaded(reply, [f"text_{number}" for number in range(1, self.count + 1)])
        names = ["rating", "rationale", *(["type"] if self.types else [])]
        if texts is None or not all(isinstance(text, dict) and {*text} == {*names} for text in texts):
            return None
        entries = [(_written(text["rating"]), text["rationale"], text.get("type", [])) for text in texts]
        sound = all(
            _is_text(why) and isinstance(types, list) and all(map(_is_text, types)) for _, why, types in entries
        )
        return entries if sound else None

    def _entry(self, rating: str, rationale: str, types: Sequence[str]) -> Rated | None:
        value = None if rating == "N/A" else score(rating, 5)
        if rating != "N/A" and (value is None or not value.is_integer()):
            return None
        named = [name.lower() for name in types]
        if bool(named) != bool(self.types) or not {*named} <= {NONE, *self.types} or (NONE in named and len(named) > 1):
            return None
        return Rated(value, rationale, ", ".join(named) or None)


@dataclass(frozen=True)
class Critique:
    """Free text on one completion, and its overall score from 1 to 10."""

    as_json: bool = False

    def asks(self) -> str:
        if self.as_json:
            return 'Reply with one JSON object and nothing else:\n{"critique": "…", "overall_score": "1" to "10"}\n'
        return "Write the critique, and below it one last line:\nOverall score: a whole number from 1 to 10\n"

    def schema(self) -> Mapping[str, Any] | None:
        scores = {"type": "string", "enum": [str(value) for value in range(1, 11)]}
        return _object({"critique": {"type": "string"}, "overall_score": scores}) if self.as_json else None

    def read(self, reply: str) -> list[Rated] | None:
        """One entry, or None when the reply isn't in the form."""
        if self.as_json:
            said = _loaded(reply, ["critique", "overall_score"])
            said = said and [said[0], _written(said[1])]
        else:
            words, _, last = reply.rstrip().rpartition("\n")
            found = re.fullmatch(r"Overall score: *(.+)", last.strip(), re.IGNORECASE)
            said = [words, found[1]] if found and "overall score:" not in words.lower() else None
        if said is None or not all(map(_is_text, said)) or not said[0].strip():
            return None
        value = score(said[1], 10)
        return None if value is None else [Rated(value, said[0].strip())]


Form = Ratings | Critique

# Each part begins where the one before it must end: nothing is tried twice, however long a run of blanks is.
_ENTRY = re.compile(
    r"^#### Output for Text (?P<number>\d+)[^\S\n]*\n\s*(?:Type:(?P<type>[^\n]*)\n\s*)?"
    r"Rating:(?P<rating>[^\n]*)\n\s*Rationale:(?P<why>.*?)(?=^####|\Z)",
    re.MULTILINE | re.DOTALL,
)


def _object(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Schema of an object with just these fields."""
    return {"type": "object", "properties": dict(fields), "required": list(fields), "additionalProperties": False}


def _loaded(reply: str, names: Sequence[str]) -> list[Any] | None:
    """The values under these names of a JSON object that has no others."""
    try:
        found = json.loads(reply)
    except (ValueError, RecursionError):
        return None
    return [found[name] for name in names] if isinstance(found, dict) and {*found} == {*names} else None


def _listed(types: str) -> list[str]:
    return [name.strip() for name in types.split(",")] if types.strip() else []


def _written(value: Any) -> str:
    """A number, too, where a text was asked for: servers that hold no schema let judges write 4 for "4"."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
