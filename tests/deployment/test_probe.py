"""What the probe lets pass and what it doesn't: the model itself, another one, another chat template."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests import openai_server
from tests.deployment.conftest import World
from tests.endpoints import OtherTemplate, endpoint
from tests.kserve_server import KServe
from zephyr.errors import EndpointError
from zephyr.serve.probe import Mismatch, probe


def asked(url: str, golden: dict[str, Any] | None, exact: bool) -> str:
    return probe(f"{url}/openai/v1", "zephyr", golden, exact)


@pytest.fixture(scope="module")
def other_template(world: World) -> Iterator[str]:
    with endpoint(world.a.path, "zephyr", OtherTemplate) as url:
        yield url


@pytest.mark.parametrize("exact", [True, False])
def test_the_model_itself_passes(world: World, exact: bool) -> None:
    found = asked(world.a_url, world.golden_a, exact)
    assert found.endswith("6 of 6 golden completions are the same, 100% of their text agrees")
    assert world.golden_a["dtype"] == "float32"


@pytest.mark.parametrize("exact", [True, False])
def test_another_model_fails(world: World, exact: bool) -> None:
    with pytest.raises(Mismatch, match="another model, or another chat template: 0 of 6 golden completions"):
        asked(world.b_url, world.golden_a, exact)


@pytest.mark.parametrize("exact", [True, False])
def test_another_chat_template_fails(world: World, other_template: str, exact: bool) -> None:
    with pytest.raises(Mismatch, match="another model, or another chat template"):
        asked(other_template, world.golden_a, exact)


def late_difference(golden: dict[str, Any], completions: int, kept: float) -> dict[str, Any]:
    """The record as if so many completions had been others after that part of their text."""

    def other(text: str) -> str:
        return text[: int(len(text) * kept)].ljust(len(text), "#")

    rows = enumerate(golden["said"])
    said = [row | {"text": other(row["text"])} if number < completions else row for number, row in rows]
    return golden | {"said": said}


def test_late_differences_pass_where_float32_is_not_promised(world: World) -> None:
    # Two of six completions differ in their second half: (4 + 2 x 1/2) / 6 = 83% agrees, give or take a rounding.
    rounded = late_difference(world.golden_a, 2, 0.5)
    found = asked(world.a_url, rounded, exact=False)
    assert "4 of 6 golden completions are the same" in found
    agreed = int(found.rpartition(", ")[2].partition("%")[0])
    assert 80 <= agreed <= 84
    with pytest.raises(Mismatch, match=r"4 of 6 .* in float32 all must be the same"):
        asked(world.a_url, rounded, exact=True)
    # All six differ in their second half: 50% is less than two thirds.
    with pytest.raises(Mismatch, match=r"0 of 6 .* the least is 67%"):
        asked(world.a_url, late_difference(world.golden_a, 6, 0.5), exact=False)


def test_nothing_was_recorded(world: World) -> None:
    assert asked(world.a_url, None, exact=False).endswith("nothing was evaluated")


def test_another_name(world: World) -> None:
    with pytest.raises(Mismatch, match="serves zephyr, not aurora"):
        probe(f"{world.a_url}/openai/v1", "aurora", None, exact=False)


def test_servers_that_are_none(world: World, kserve: KServe) -> None:
    for url in ("http://127.0.0.1:9", kserve.url, world.a_url + "/wrong"):
        with pytest.raises(EndpointError) as raised:
            asked(url, world.golden_a, exact=True)
        assert str(raised.value).startswith(f"{url}/openai/v1: ") and "\n" not in str(raised.value)


def test_a_server_without_streams() -> None:
    with (
        openai_server.serving(lambda body, before: "hello") as server,
        pytest.raises(EndpointError, match="a stream broke off before its end"),
    ):
        probe(server.url, "m", None, exact=False)


def test_a_server_without_chat() -> None:
    def reply(body: dict[str, Any], before: int) -> openai_server.Answer:
        return 500, {"error": {"message": "the model\nfailed"}}, {}

    with openai_server.serving(reply) as server, pytest.raises(EndpointError, match="the model failed"):
        probe(server.url, "m", None, exact=False)
