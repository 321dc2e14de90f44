"""AlpacaEval's files: what would be counted twice, with another's difficulty, or as a length of nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.benching import bench
from zephyr.errors import DataError
from zephyr.evals import alpaca
from zephyr.evals.alpaca import checking, published
from zephyr.evals.bench import Bench
from zephyr.schema import Answer
from zephyr.sections import Endpoint, Evaluate, Safety

ROWS: list[Mapping[str, Any]] = [{"instruction": f"say {n}", "output": "x", "generator": "ref"} for n in range(3)]


def asking(tmp_path: Path, rows: Sequence[Mapping[str, Any]] = ROWS, **more: Any) -> Bench:
    section = Evaluate(instructions="i", judge="j", safety=Safety(prompts=()), **more)
    return bench(section, tmp_path, {"i": rows}, {"new": tmp_path})


def row(number: int, **more: Any) -> dict[str, Any]:
    """A verdict for the model."""
    texts = {"output_1": "other", "generator_1": "ref", "output_2": "own", "generator_2": "new"}
    return {"instruction": f"say {number}", **texts, "annotator": "j", "preference": 2, **more}


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_an_instruction_that_comes_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"evaluate\.instructions: .*:4: the instruction of .*:2 again"):
        alpaca.check(asking(tmp_path, [*ROWS, {**ROWS[1], "output": "y"}]))
    # AlpacaFarm's instructions may share their words, and differ by their input.
    alpaca.check(asking(tmp_path, [{**ROWS[0], "input": "a"}, {**ROWS[0], "input": "b"}]))


def test_difficulties_go_by_the_rows_of_the_instructions(tmp_path: Path) -> None:
    """A row that comes again has a number as well: of a, a, b the difficulty of b is that of 2."""
    table = tmp_path / "d.csv"
    table.write_text("index,instruction_difficulty\n0,1\n1,1\n2,7\n3,9\n")
    file = write(tmp_path / "a.json", [row(n, output_2="long " * n) for n in range(3)])
    names = ["say 0", "say 0", "say 1", "say 2"]
    by_place = published.standings([file], names, table)
    by_name = tmp_path / "d.json"
    write(by_name, [{"instruction": f"say {n}", "instruction_difficulty": value} for n, value in enumerate((1, 7, 9))])
    assert by_place == published.standings([file], names, by_name)
    assert by_place != published.standings([file], ["say 0", "say 1", "say 2"], table)


@pytest.mark.parametrize("header", [",instruction_difficulty", "index,instruction_difficulty"])
@pytest.mark.parametrize("places", ["0 1 2", "0.0 1.0 2.0"])
def test_difficulties_as_pandas_writes_them(header: str, places: str, tmp_path: Path) -> None:
    table = tmp_path / "d.csv"
    table.write_text(header + "\n" + "".join(f"{place},{n}.5\n" for n, place in enumerate(places.split())))
    assert checking.difficulties(table, "d")[0] == {0: 0.5, 1: 1.5, 2: 2.5}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(0, 1), (1, 2), (0, 3)], r":3: another difficulty of 0 than before"),
        ([(0.5, 1)], r":1: needs instruction_difficulty"),
        ([(0, 10**400)], r":1: needs instruction_difficulty"),
        ([(10**400, 1)], r":1: needs instruction_difficulty"),
    ],
)
def test_bad_difficulties_are_named_by_their_row(rows: Any, said: str, tmp_path: Path) -> None:
    table = tmp_path / "d.jsonl"
    table.write_text("".join(json.dumps({"index": n, "instruction_difficulty": d}) + "\n" for n, d in rows))
    with pytest.raises(DataError, match=said):
        checking.difficulties(table, "d")


@pytest.mark.parametrize(
    ("row_", "said"),
    [
        (row(0, output_2=None), r", row 1: no output_2, whose length is counted"),
        ({k: v for k, v in row(0).items() if k != "output_2"}, r", row 1: no output_2"),
        (row(0, output_1=None), r", row 1: no output_1"),
        (row(0, preference=10**400), r", row 1: preference 1000.*0 lies outside of AlpacaEval's 1 to 2"),
        (row(0, preference=-(10**400)), r", row 1: preference -1000.*0 lies outside"),
        (row(0, annotator=["j"]), r", row 1: annotator must be a text"),
    ],
)
def test_annotations_that_cannot_be_counted_are_refused(row_: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as error:
        published.standings([write(tmp_path / "a.json", [row_])])
    assert len(str(error.value)) < 300


def test_an_empty_output_has_no_length_and_a_missing_judge_no_name(tmp_path: Path) -> None:
    (found,) = published.standings([write(tmp_path / "a.json", [row(0, output_2="", annotator=None), row(1)])])
    assert (found.win["length"], found.judge) == (1.5, "2 judges")
    (found,) = published.standings([write(tmp_path / "b.json", [row(0, annotator=None)])])
    assert found.judge == ""


def test_annotations_name_the_judge_s_model(tmp_path: Path) -> None:
    """Not its endpoint: what a judge is called in a recipe says nothing elsewhere."""
    ends = {"j": Endpoint(base_url="http://127.0.0.1:9/v1", model="judge-model")}
    at = replace(asking(tmp_path, ROWS[:1]), endpoints=ends)
    answer = Answer(
        set="instructions",
        question_id="1",
        category="",
        model="new",
        turn=1,
        prompt="say 0",
        answer="",
        tokens=1,
        error="empty answer",
    )  # loses without a call
    files = alpaca.found(at, [answer], alpaca.judge(at, [answer])).files
    (one,) = json.loads(files["alpaca_eval/new/annotations.json"])
    assert (one["annotator"], one["preference"], one["output_2"]) == ("judge-model", 1.0, "")
