"""Languages: dialogues in others than the recipe's are dropped."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zephyr.data.rules import prose
from zephyr.data.rules.rule import NEVER, Rule
from zephyr.errors import RecipeError
from zephyr.schema import Message
from zephyr.sections import Cleaning

# So many of these words that nothing but English can be meant: one in 60 bytes. English prose has three times as many.
_WORDS = (
    r"\b(?:[Tt]he|[Aa]nd|[Oo]f|[Tt]o|[Tt]hat|[Ww]ith|[Tt]his|[Aa]re|[Yy]ou|[Hh]ave|[Ww]hat|[Ff]rom|[Hh]ow|[Cc]an)\b"
)
_words = re.compile(_WORDS, re.ASCII)
_BYTES = 60
SHORTEST = 40
"""Letters: fewer don't tell a language."""
ENOUGH = 5000
"""Characters that tell it."""
SURE = 0.8
"""Probability of the likeliest language, by which a dialogue is dropped; one that nobody can place is kept."""


def rule(section: Cleaning) -> Rule:
    wanted = section.languages
    unknown = [code for code in wanted if code not in _identifier().labels]
    if unknown:
        known = ", ".join(sorted(_identifier().labels))
        raise RecipeError(f"prepare.clean.languages: no language `{unknown[0]}` (languages: {known})")

    def apply(messages: Sequence[Message]) -> Sequence[Message] | str:
        if not wanted or ("en" in wanted and _is_plainly_english(messages)):
            return messages
        text = prose.only("\n".join(m["content"] for m in messages if m["role"] != "system")).replace("#", " ").lower()
        if sum(map(str.isalpha, text)) < SHORTEST:
            return messages
        code, sure = _identifier().classify(text[:ENOUGH])
        return f"the language is `{code}`" if code not in wanted and sure >= SURE else messages

    def screen(roles: pa.Array, texts: pa.Array, offsets: np.ndarray) -> np.ndarray:
        spoken = pc.not_equal(roles, "system").to_numpy(zero_copy_only=False)
        found = pc.count_substring_regex(texts, _WORDS).to_numpy(zero_copy_only=False) * spoken
        size = pc.binary_length(texts).to_numpy(zero_copy_only=False) * spoken
        return np.asarray(np.diff(np.concatenate([[0], np.cumsum(found * _BYTES - size)])[offsets]) < 0)

    says = f"dialogues are kept that are in {', '.join(wanted) or 'any language'}"
    if not wanted:
        return Rule("language", 1, says, ("user", "assistant"), NEVER, apply)
    return Rule("language", 1, says, ("user", "assistant"), None, apply, screen=screen if "en" in wanted else None)


def _is_plainly_english(messages: Sequence[Message]) -> bool:
    spoken = [message["content"] for message in messages if message["role"] != "system"]
    found = sum(len(_words.findall(text)) for text in spoken)
    return found * _BYTES >= sum(len(text.encode()) for text in spoken)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
