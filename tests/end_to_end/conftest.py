"""A module's `model`, a fixture of its own, served as tiny."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.served import serving


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    with serving(str(model), "--name", "tiny") as url:
        yield url


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server, api_key="none", max_retries=0) as client:
        yield client
