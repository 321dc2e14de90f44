"""The report of a run: what it says, what it leaves out and why, and that nothing in it is more than text."""

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.reported import DPO, SFT, VARIANTS, Stored, evaluation
from tests.sceptical import HOSTILE
from zephyr import workspace
from zephyr.cli import main
from zephyr.evals.report import charts, drawings, flow, lengths, talks
from zephyr.evals.report.facts import gather
from zephyr.evals.report.page import render
from zephyr.evals.report.states import Missing

pytestmark = pytest.mark.usefixtures("home")

SECTIONS = ["verdict", "judge", "figures", "peers", "categories", "wins", "length", "safety", "academic", "talks"]
SECTIONS += ["cost", "training", "claims", "data", "lineage", "settings"]


class Parsed(HTMLParser):
    """Elements, their ids and attributes, and the text, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._texts: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self._texts.append(data)


def page_of(run: Stored) -> Parsed:
    return Parsed(render(gather(run.run_id)))


def test_a_whole_run_verdict_first() -> None:
    run = Stored()
    run.whole()
    page = page_of(run)
    assert page.ids == SECTIONS
    assert page.text.index("Gate passed") < page.text.index("because") < page.text.index("In figures")
    # Three of four verdicts go 1, 0.5, 0, 1, shifted by one for the second model: 12 of them sum to 7.5.
    assert "62.5% " in page.text and "61.5 [55.0, 68.0]" in page.text
    assert "$1.25" in page.text and "390 calls made in this run" in page.text
    assert "a" * 64 in page.text and run.made["dpo"].digest in page.text
    assert "missing" not in [value for name, value in page.attributes if name == "class"]
    # Charts: 2 checks of the judge, 5 trainings, 2 of categories, win rates, 3 of length, 2 of safety, 6 bars of
    # the data's way.
    assert page.tags.count("svg") == 21
    roles = [value for name, value in page.attributes if name == "role"]
    assert roles.count("img") == 21


def test_texts_of_models_stay_texts() -> None:
    run = Stored(name=HOSTILE, description=HOSTILE)
    run.whole()
    page = page_of(run)
    assert not {"script", "img", "b", "iframe", "object", "link", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "srcset")]
    assert {value for name, value in page.attributes if name == "href"} == {f"#{name}" for name in SECTIONS[1:]}
    assert "dDPO+dSFT says <script>alert(1)</script>" in page.text


def test_nothing_is_loaded_and_no_password_shown() -> None:
    run = Stored(endpoints={"a": {"base_url": "https://me:secret@host/v1"}})
    run.whole()
    page = render(gather("r1"))
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page
    assert "secret" not in page and "https://***@host/rows.jsonl" in page


def test_a_failed_run() -> None:
    run = Stored()
    run.until_pairs()
    run.tell("sft", "start")
    run.tell("sft", "failed", message=f"the disk is full {HOSTILE}", user=True)
    page = page_of(run)
    assert page.text.index("Failed in sft") < page.text.index("the disk is full") < page.text.index("In figures")
    assert "zephyr logs r1 --step sft" in page.text
    assert "No evaluation: the run ended in sft, before evaluate." in page.text
    assert "SFT: sft failed." in page.text and "DPO: the run ended in sft, before dpo." in page.text
    assert "No claim was tested in this run." in page.text and "script" not in page.tags
    assert page.ids == SECTIONS


def test_a_run_that_failed_before_its_recipe_was_known() -> None:
    run = Stored()
    (run.folder / "recipe.json").unlink()
    run.tell("resolve", "start")
    run.tell("resolve", "failed", message="no such recipe", user=True)
    page = page_of(run)
    assert "Failed in resolve" in page.text and "No recipe: the recipe was not resolved." in page.text
    (run.folder / "recipe.yaml").write_text("name: as given\nseed: 3\n")
    assert "recipe as given, seed 3" in page_of(run).text


@pytest.mark.parametrize(
    ("events", "title"),
    [
        ([], "No verdict"),
        ([("sft", "start", {})], "Not finished: sft"),
        ([("gate", "done", {"verdict": "failed", "reasons": ["a"]})], "Gate failed"),
        ([("gate", "done", {"verdict": "pending", "reasons": ["a"]})], "Gate pending"),
        ([("gate", "skipped", {"reason": "--until sft"})], "No verdict"),
    ],
)
def test_verdicts(events: list[tuple[str, str, dict[str, Any]]], title: str) -> None:
    run = Stored()
    for step, kind, fields in events:
        run.tell(step, kind, **fields)
    run.tell("report", "start")  # at work itself
    assert gather("r1").verdict.title == title
    assert title in page_of(run).text


def test_steps_that_had_nothing_to_do_say_why() -> None:
    run = Stored()
    for step in ("sample", "rate"):
        run.step(step, {}, reason="the recipe names pairs")
    run.step("evaluate", {}, reason="the recipe names no questions")
    page = page_of(run)
    assert "No counts: sample had nothing to do (the recipe names pairs)." in page.text
    assert "No evaluation: evaluate had nothing to do (the recipe names no questions)." in page.text
    assert "No conversations: evaluate" in page.text


def test_artifacts_that_are_gone_are_named() -> None:
    run = Stored()
    run.whole()
    for name in ("evaluate", "dpo"):
        run.store.remove(run.made[name].manifest)
    page = page_of(run)
    assert f"can't be read: {run.made['evaluate'].uri}: no artifact there" in page.text
    assert "dpo: not readable" in page.text and "SFT: loss" in page.text


def test_an_artifact_without_history_says_so() -> None:
    run = Stored()
    run.step("sft", {})
    assert gather("r1").no_history["sft"].why.endswith("holds no history.json")


def test_the_way_of_the_data_accounts_for_every_row() -> None:
    run = Stored()
    run.until_models()
    found = {stage.step: stage for stage in flow.stages(gather("r1").steps)}
    for stage in found.values():
        assert isinstance(stage, flow.Stage)
        assert stage.total.count == sum(share.count for share in (*stage.kept, *stage.lost))
    prepare = found["prepare"]
    assert isinstance(prepare, flow.Stage)
    assert [share.count for share in prepare.kept] == [75, 10]
    lost = {share.name: share.count for share in prepare.lost if share.count}
    assert lost == {"the prompt was there already": 3, "the rule disclaimers": 12}
    assert isinstance(found["sft"], flow.Stage) and found["sft"].kept[0].count == 74  # 75 less one dropped


def test_rows_that_no_count_explains_are_shown_as_lost() -> None:
    run = Stored()
    run.step("pair", {"prompts": 10, "train": 5, "test": 1, "ties": 1})
    stage = flow.stages(gather("r1").steps)[3]
    assert isinstance(stage, flow.Stage)
    assert stage.lost[-1] == flow.Share("reason not known", 3)


def test_conversations_are_drawn_by_seed_alone() -> None:
    run = Stored()
    run.whole(text="fine")
    facts = gather("r1")

    def questions(seed: int) -> list[str]:
        found = talks.drawn(facts.answers, facts.scores, facts.comparisons, VARIANTS[0], seed)
        assert not isinstance(found, Missing)
        assert len(found) == 24  # twelve questions, twelve instructions: all of them
        # One of each of four categories, and an instruction, then the next five.
        assert len({talk.category for talk in found[:5]}) == len({talk.category for talk in found[5:10]}) == 5
        assert all(len(talk.turns) == (2 if talk.kind == "question" else 1) for talk in found)
        assert all([said.variant for said in turn.said] == list(VARIANTS) for talk in found for turn in talk.turns)
        return [talk.question for talk in found]

    assert questions(7) == questions(7)
    assert len({tuple(questions(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("kind", ["questions", "instructions"])
def test_an_evaluation_of_one_kind_only(kind: str) -> None:
    run = Stored()
    run.until_models()
    files = evaluation("fine", set_of=kind)
    run.step("evaluate", {}, ["sft", "dpo"], files)
    page = page_of(run)
    if kind == "questions":
        assert "No win rates: no instructions were compared." in page.text and "10, right" in page.text
    else:
        assert "No scores: no two-turn questions were asked." in page.text
        assert "preferred to dSFT-1" in page.text and "instruction 1" in page.text


def test_length_against_the_judges_word() -> None:
    # Lengths 1 to 6 in three groups of two; scores fall, so the ranks are opposed.
    points = [(float(n), 7.0 - n) for n in range(1, 7)]
    assert [(b.length, b.value, b.n) for b in lengths.bins(points, 3)] == [(1.5, 5.5, 2), (3.5, 3.5, 2), (5.5, 1.5, 2)]
    assert lengths.rank_correlation(points) == pytest.approx(-1.0)
    # Equal lengths share rank 0.5; ranks 0.5, 0.5, 2 against 0, 1, 2 correlate at sqrt(3)/2.
    assert lengths.rank_correlation([(1, 1), (1, 2), (3, 3)]) == pytest.approx(3**0.5 / 2)
    assert lengths.rank_correlation([(1, 1), (1, 2), (1, 3)]) is None
    assert sum(b.n for b in lengths.bins([(4.0, 1.0)] * 9)) == 9


def test_long_trainings_are_averaged_in_groups() -> None:
    thin = drawings.thinned([(float(n), 2.0 * n) for n in range(1000)])
    assert len(thin) <= drawings.POINTS
    assert thin[0] == (2.0, 4.0)  # mean of the first five
    assert drawings.thinned([(1.0, 2.0)]) == [(1.0, 2.0)]


def test_ticks_are_round_and_cover() -> None:
    assert charts.ticks(0.0, 1.0) == [0, 0.25, 0.5, 0.75, 1.0]
    assert charts.ticks(3.0, 3.0)[0] <= 3.0 <= charts.ticks(3.0, 3.0)[-1]
    assert charts.ticks(-8.3, 0.4)[0] <= -8.3


def test_figures_that_are_no_numbers_leave_a_gap() -> None:
    run = Stored()
    run.step("sft", {}, files={"history.json": [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1.0}]})
    run.step("dpo", {}, files={"history.json": [{"step": 1, "loss": float("nan")}]})
    page = page_of(run)
    assert "dSFT-1, training: 1 at step 2" in str(page.attributes)
    assert "DPO: loss: the history holds no such figure" in page.text


def test_the_page_stays_small_whatever_a_run_holds() -> None:
    run = Stored(name="n" * 10_000, description="d" * 100_000, notes=["x" * 1000] * 3000)
    run.until_pairs()
    long = [{"step": n, "loss": 1.0, "eval_loss": 1.0, "rewards/accuracies": 0.5} for n in range(30_000)]
    run.step("sft", {}, ["prepare"], {"history.json": long} | {f"{n:0100d}.json": 1 for n in range(500)})
    run.step("dpo", {}, ["sft", "pair"], {"history.json": long})
    text = "<" * 20_000  # four characters each when escaped
    files = evaluation(text, ("dSFT-1", "dSFT-2", "dDPO", "dDPO+dSFT"), [f"{n} " + "c" * 300 for n in range(300)])
    many = [dict(row, baseline=f"{n} {text}") for n in range(200) for row in files["summary.json"]["win_rates"][:1]]
    files["summary.json"]["win_rates"] += many
    run.step("evaluate", {}, ["sft", "dpo"], files)
    run.tell("gate", "done", seconds=1.0, verdict="failed", reasons=["r" * 50_000] * 100)
    page = render(gather("r1"))
    assert len(page.encode()) < 1_500_000


def test_the_history_is_read_and_verified_without_the_weights_beside_it() -> None:
    run = Stored()
    run.until_models()
    place = Path(run.made["sft"].uri)
    os.truncate(place / "history.json", 5)
    assert "corrupted" in gather("r1").no_history["sft"].why
    (place / "history.json").write_text(json.dumps(SFT))
    run.step("dpo", {}, files={"history.json": DPO, "model.safetensors": "weights"})
    (Path(run.made["dpo"].uri) / "model.safetensors").unlink()
    found = gather("r1").histories
    assert found["sft"]["dSFT-1"] == SFT and found["dpo"]["dDPO+dSFT"] == DPO


def test_the_verb_writes_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    run = Stored()
    run.whole()
    assert main(["report"]) == 0
    written = workspace.run_folder("r1") / "report.html"
    assert capsys.readouterr().out == f"{written}\n"
    assert written.read_text() == render(gather("r1"))
    assert main(["report", "nowhere"]) == 2
