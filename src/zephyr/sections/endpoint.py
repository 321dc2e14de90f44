"""A model behind the OpenAI API."""

import re
from typing import Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from zephyr.sections.base import NAMED, SECRET, Positive, Section, Text

UNSHOWN = "unshown"
"""Type of a problem whose message doesn't say what was given: it may be a secret."""


class Endpoint(Section):
    """A model behind the OpenAI API."""

    base_url: Text
    """With the version part: https://host/v1; may hold ${NAME} of an environment variable."""
    model: Text
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; never the key itself."""
    price_in: float = Field(0.0, ge=0)
    """US dollars per million prompt tokens."""
    price_out: float = Field(0.0, ge=0)
    """US dollars per million completion tokens."""
    max_concurrency: Positive = 16
    """Calls under way at once."""
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)
    """Prompt and completion tokens; null: without end, as for requests."""
    json_schema: bool = False
    """The server holds replies to a JSON schema (`response_format: json_schema`)."""
    timeout: float = Field(120.0, gt=0)
    """Seconds for one call, from first to last byte."""

    @field_validator("base_url")
    @classmethod
    def _tells_no_secret(cls, url: str) -> str:
        if SECRET.search(NAMED.sub("", url)):
            told = "holds a password or key; write ${NAME} of an environment variable for it, or use api_key_env"
            raise PydanticCustomError(UNSHOWN, told)
        return url

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            told = "is no name of an environment variable; export the key under a name and write that, never the key"
            raise PydanticCustomError(UNSHOWN, told)
        return name

    @property
    def decisive(self) -> dict[str, Any]:
        """What decides the replies; prices and limits don't."""
        return {"base_url": self.base_url, "model": self.model, "json_schema": self.json_schema}

    def part(self, shards: int) -> "Endpoint":
        """The endpoint as one of several shards may use it: with its part of the limits."""
        requests, tokens = self.requests_per_minute, self.tokens_per_minute
        limits = {
            "max_concurrency": self.max_concurrency // shards,
            "requests_per_minute": None if requests is None else requests / shards,
            "tokens_per_minute": None if tokens is None else tokens / shards,
        }
        return self.model_copy(update=limits)
