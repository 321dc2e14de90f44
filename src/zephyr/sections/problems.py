"""What is wrong with settings, as plain lines."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from zephyr.sections.endpoint import UNSHOWN

PLAIN = {"missing": "is required", "dict_type": "should be a mapping", "model_type": "should be a mapping"}


def problems(error: ValidationError, settings: Mapping[str, Any], root: type[BaseModel]) -> Iterator[str]:
    """Of each problem a line: the setting's path and what is wrong there, with the value unless it may be a secret."""
    for problem in error.errors(include_url=False):
        loc, kind, given = problem["loc"], problem["type"], problem["input"]
        path = ".".join((*_path(loc, settings), *(map(str, loc[-1:]) if kind == "missing" else ())))
        message = problem["msg"].removeprefix("Value error, ")
        if kind == "extra_forbidden":
            message = f"unknown setting{_nearest(loc, root)}"
        elif kind in PLAIN:
            message = PLAIN[kind]
        elif kind != UNSHOWN and (isinstance(given, str) or not isinstance(given, Mapping | Sequence)):
            message = f"{message} (got {given!r})"
        yield f"{path}: {message}" if path else message


def _path(loc: tuple[int | str, ...], settings: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a place that stand in the settings; pydantic names the kinds of a union among them."""
    value: Any = settings
    for part in loc:
        inside = isinstance(part, int) if isinstance(value, list) else isinstance(value, Mapping) and part in value
        if inside:
            value = value[part]
            yield str(part)


def _nearest(loc: tuple[int | str, ...], root: type[BaseModel]) -> str:
    owner: Any = root
    for part in loc[:-1]:
        field = getattr(owner, "model_fields", {}).get(part)
        owner = field.annotation if field else None
    if not (isinstance(owner, type) and issubclass(owner, BaseModel)):
        return ""
    close = difflib.get_close_matches(str(loc[-1]), list(owner.model_fields), 1)
    return f", did you mean `{close[0]}`?" if close else ""
