"""A version whose gate waits for a person: not deployed before, but after; a second approval changes nothing."""

import json
from collections.abc import Callable

import pytest

from tests.deployment.conftest import TEXT_RUN, World, champion, summary, version
from tests.kserve_server import KServe
from zephyr import lineage, registry
from zephyr.errors import TrackingError
from zephyr.steps import ALIGNED

Zephyr = Callable[..., TEXT_RUN]


def test_approved_then_deployed(fresh: World, kserve: KServe, zephyr: Zephyr) -> None:
    found = version(2)  # judged by the pipeline's gate
    assert found.tags["zephyr.verdict"] == "pending" and champion() == "1"
    code, _, err = zephyr("deploy", "zephyr@candidate")
    assert code == 2 and "waits for approval" in err and kserve.writes == []

    code, out, _ = zephyr("approve", "zephyr@candidate", "--note", "read 50 answers", "--by", "ada@lab")
    assert (code, out) == (0, "zephyr version 2: approved, and the champion; zephyr deploy zephyr@champion\n")
    tags = version(2).tags
    assert (tags["zephyr.approved_by"], tags["zephyr.approval_note"]) == ("ada@lab", "read 50 answers")
    assert tags["zephyr.approved_at"].endswith("+00:00") and tags["zephyr.verdict"] == "passed"
    # The gate's other checks: win rate, categories, and the champion's score of 6.0 against 6.4.
    assert tags["zephyr.reasons"].startswith("approved by ada@lab: read 50 answers; win rate 60.0 against dSFT-1")
    assert "against the champion's 6.00: no regression" in tags["zephyr.reasons"]
    assert "a person must approve it" not in tags["zephyr.reasons"] and champion() == "2"
    card = fresh.store.shelved("/".join(tags["zephyr.uri"].rsplit("/", 2)[1:]), "README.md")
    assert card is not None and "## Gate\n\nPassed:\n\n- approved by ada@lab: read 50 answers\n- win rate 60.0" in card

    code, out, _ = zephyr("deploy", "zephyr@champion")
    assert code == 0 and "InferenceService default/zephyr, version 2: created" in out

    before = version(2)
    code, out, _ = zephyr("approve", "zephyr@candidate", "--note", "me too", "--by", "bob")
    when = before.tags["zephyr.approved_at"]
    assert (code, out) == (0, f"zephyr version 2: approved by ada@lab at {when}; nothing to do\n")
    after = version(2)
    assert (after.tags, after.last_updated_timestamp) == (before.tags, before.last_updated_timestamp)


def test_who_is_known_without_being_told(fresh: World, zephyr: Zephyr) -> None:
    assert zephyr("approve", "zephyr@2", "--note", "fine")[0] == 0
    user, _, host = version(2).tags["zephyr.approved_by"].partition("@")
    assert user and host


def test_the_gate_runs_against_the_champion_of_now(fresh: World, zephyr: Zephyr) -> None:
    """Since the version was judged, a better one became champion: 6.4, at best 6.9, is less than 8.0."""
    registry.tag(version(1), {"zephyr.summary": json.dumps({"models": {ALIGNED: summary(8.0)["models"][ALIGNED]}})})
    code, _, err = zephyr("approve", "zephyr@2", "--note", "go", "--by", "ada")
    assert code == 2 and "approved, but its gate fails now: " in err and "the champion's 8.00: a regression" in err
    tags = version(2).tags
    assert (tags["zephyr.verdict"], tags["zephyr.approved_by"], champion()) == ("failed", "ada", "1")
    code, _, err = zephyr("approve", "zephyr@2", "--note", "please")
    assert code == 2 and "didn't pass its gate, which an approval can't change" in err


def test_a_champion_that_moves_meanwhile_is_not_overwritten(fresh: World) -> None:
    with pytest.raises(TrackingError, match="version 1 took the place of none meanwhile"):
        registry.promote("zephyr", "2", None)
    assert champion() == "1"


def test_what_needs_no_approval(fresh: World, zephyr: Zephyr) -> None:
    before = version(1).tags
    code, out, _ = zephyr("approve", "zephyr@champion", "--note", "why not")
    assert (code, version(1).tags) == (0, before)
    assert out == "zephyr version 1: passed its gate without anybody's approval; nothing to do\n"


def test_refusals(fresh: World, zephyr: Zephyr) -> None:
    for arguments, wanted in (
        (["zephyr@nobody", "--note", "x"], "no such version in the registry"),
        (["zephyr", "--note", "x"], "write it as NAME@ALIAS"),
        (["zephyr@2", "--note", " "], "--note: say why"),
    ):
        code, _, err = zephyr("approve", *arguments)
        assert code == 2 and wanted in err and err.count("\n") == 1
    mlflow = lineage.client()
    mlflow.delete_model_version_tag("zephyr", "2", "zephyr.settings")
    code, _, err = zephyr("approve", "zephyr@2", "--note", "x")
    assert code == 2 and "was registered without its settings, by an older Zephyr" in err
    for tag in ("zephyr.verdict", "zephyr.reasons"):
        mlflow.delete_model_version_tag("zephyr", "2", tag)
    code, _, err = zephyr("approve", "zephyr@2", "--note", "x")
    assert code == 2 and "no gate has judged it" in err


def test_what_nobody_evaluated_may_be_approved(fresh: World, zephyr: Zephyr) -> None:
    """The recipe demands no figure and asks for a person: then a person may decide without one."""
    store = fresh.store
    with store.writing() as staging:
        empty = store.publish(staging, "evaluate", 1, {}, {}, reason="the recipe names no questions")
    gate = json.loads(version(2).tags["zephyr.settings"])
    gate["gate"] |= {"min_win_rate": None, "approval": True}
    registry.tag(version(2), {"zephyr.scores": empty.uri, "zephyr.settings": json.dumps(gate)})
    assert zephyr("approve", "zephyr@2", "--note", "tried by hand", "--by", "ada")[0] == 0
    assert champion() == "2" and version(2).tags["zephyr.reasons"].startswith(
        "approved by ada: tried by hand; safety is waived: "
    )
