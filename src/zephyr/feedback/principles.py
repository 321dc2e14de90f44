"""Principles: what the system prompt of a completion asks of it, drawn per completion (UltraFeedback)."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, NamedTuple

import yaml

from zephyr.sections import Sample


class Drawn(NamedTuple):
    principle: str | None
    system_prompt: str | None


NONE = Drawn(None, None)


@cache
def shipped() -> Mapping[str, Any]:
    """principles.yaml: mixes by name, system prompts by principle."""
    found: Mapping[str, Any] = yaml.safe_load((files("zephyr.feedback") / "principles.yaml").read_text())
    return found


def drawn(section: Sample, seed: int, prompt: str, source: str, model: str) -> Drawn:
    """The principle of one completion and one of its system prompts, whatever other prompts there are."""
    given = section.principles
    mixes = shipped()["mixes"][given] if isinstance(given, str) else given
    mix = mixes.get(source, mixes.get("default"))
    if not mix:
        return NONE
    rng = Random(f"{seed}:principle:{model}:{prompt}")
    names = sorted(mix)  # a recipe's order means nothing
    principle = rng.choices(names, [mix[name] for name in names])[0]
    return Drawn(principle, rng.choice(shipped()["system_prompts"][principle]))
