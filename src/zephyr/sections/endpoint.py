"""A model behind the OpenAI API."""

from pydantic import Field

from zephyr.sections.base import Positive, Section, Text


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
