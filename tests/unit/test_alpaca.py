"""AlpacaEval: its public files, the comparisons of an evaluation, preference by probabilities, peers."""

import json
import math
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.benching import bench
from tests.loopback import listening
from tests.openai_server import Scripted, serving
from zephyr import cli
from zephyr.errors import DataError
from zephyr.evals import alpaca
from zephyr.evals.alpaca import published
from zephyr.evals.bench import Bench
from zephyr.evals.summary import summarise
from zephyr.schema import Answer
from zephyr.sections import Endpoint, Evaluate, Safety

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "alpaca_eval"
ROWS: list[Mapping[str, Any]] = [
    {"instruction": f"say {n}", "output": f"said {n}", "generator": "ref"} for n in range(4)
]


def section(**more: Any) -> Evaluate:
    return Evaluate(**{"instructions": "i", "judge": "j", "bootstrap": 50, "safety": Safety(prompts=()), **more})


def answer(model: str, number: int, text: str | None) -> Answer:
    return Answer(
        set="instructions",
        question_id=str(number),
        category="",
        model=model,
        turn=1,
        prompt=f"say {number - 1}",
        answer=text,
        tokens=1,
        error="no answer" if text is None else None if text else "empty answer",
    )


def row(number: int, preference: Any, **more: Any) -> dict[str, Any]:
    """An annotation: the model's output has 3 characters, the baseline's 5."""
    plain = {"instruction": f"say {number}", "output_1": "other", "generator_1": "ref", "output_2": "own"}
    return {**plain, "generator_2": "new", "annotator": "j", "preference": preference, **more}


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def standing(file: Path) -> published.Standing:
    (found,) = published.standings([file])
    return found


def counts(win: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(win[name] for name in ("n", "wins", "losses", "draws", "unparsed"))


@pytest.mark.skipif(not REAL.exists(), reason="the public annotations of zephyr-7b-alpha are not here")
def test_public_annotations_give_the_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    win = standing(REAL / "zephyr-7b-alpha").win
    assert counts(win) == (804, 688, 113, 3, 1)
    assert win["win_rate"] == pytest.approx(85.7587064676617, abs=1e-9)  # the public leaderboard's digits
    assert win["se"] == pytest.approx(1.2285451680042003, abs=1e-9)
    assert int(win["length"]) == 1302 and win["model"] == "zephyr-7b-alpha"
    known = str(REAL / "text_davinci_003.json")
    assert cli.main(["eval", "alpaca", str(REAL / "zephyr-7b-alpha"), "--instructions", known]) == 0
    said = capsys.readouterr().out
    assert all(part in said for part in ("85.7587", "1.2285", "804", "688", "113", "1,302"))


def test_preferences_of_both_versions_count_by_rule(tmp_path: Path) -> None:
    given = [1, 2, 2.0, 0, 1.5, None, float("nan"), -1, 1.75, 2.0000000004]
    rows = [row(n, preference) for n, preference in enumerate(given)] + [row(0, 2)]  # the first one is judged again
    found = standing(write(tmp_path / "annotations.json", rows))
    # 1, 1, 1 and 1 (rounded), two halves, 0.75: 5.75 of 7; null, NaN and -1 were not read
    assert found.win["win_rate"] == pytest.approx(100 * 5.75 / 7)
    # squares about 23/28: 4 x (5/28)^2 + 2 x (9/28)^2 + (2/28)^2 = 266/784; / 6 and / 7, its root
    assert found.win["se"] == pytest.approx(100 * math.sqrt(266 / 784 / 6 / 7))
    assert counts(found.win) == (7, 5, 0, 2, 3)
    assert (found.replaced, found.win["length"], found.win["length_gap"]) == (1, 3.0, -2.0)


def test_a_pool_of_judges_is_one_file(tmp_path: Path) -> None:
    rows = [row(0, 2), row(1, 1, annotator="k")]
    assert standing(write(tmp_path / "a.json", rows)).judge == "2 judges"


def test_files_of_one_judge_tell_the_difficulty(tmp_path: Path) -> None:
    long = [row(n, 1 + n % 2, output_2="long " * n) for n in range(8)]
    first = write(tmp_path / "a.json", long)
    second = write(tmp_path / "b.json", [{**one, "generator_2": "old"} for one in long])
    third = write(tmp_path / "c.json", [{**one, "annotator": "k"} for one in long])
    found = published.standings([first, second, third])
    assert [(one.judge, one.win["model"], one.win["lc_difficulty"]) for one in found] == [
        ("j", "new", "fitted"),
        ("j", "old", "fitted"),
        ("k", "new", "none"),
    ]
    with pytest.raises(DataError, match=r"b\.json: old against ref by j is in an earlier file, too"):
        published.standings([second, second])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(0, 2), row(1, 2, generator_2="old")], r", row 2: old against ref among those of new against ref"),
        ([row(0, 2), row(1, 2, generator_1="gpt")], r", row 2: new against gpt among those of new against ref"),
        ([row(0, 2), row(0, 2, annotator="k")], r", row 2: k judges what j did before"),
        ([row(0, 2), row(9, 2)], r", row 2: none of the 4 instructions: 'say 9'"),
        ([row(0, 0.3)], r", row 1: preference 0\.3 lies outside of AlpacaEval's 1 to 2"),
        ([row(0, "2")], r", row 1: preference must be a number or null"),
        ([row(0, True)], r", row 1: preference must be a number or null"),
        ([{"instruction": "say 0", "output": "x", "generator": "new"}], r", row 1: an output, not an annotation"),
        ([row(0, 2, generator_1=None)], r", row 1: generator_1 must be a text"),
        ([row(0, 2, output_2=["a"])], r", row 1: output_2 must be a text"),
        ([row(0, 2), "x"], r", row 2: not a JSON object"),
        ([{k: v for k, v in row(0, 2).items() if k != "preference"}], r", row 1: no preference"),
        ([], "holds no annotations"),
    ],
)
def test_a_bad_annotation_is_named_by_its_row(rows: list[Any], said: str, tmp_path: Path) -> None:
    file = write(tmp_path / "annotations.json", rows)
    with pytest.raises(DataError, match=said) as error:
        published.standings([file], [str(one["instruction"]) for one in ROWS])
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_what_an_evaluation_writes_is_read_again_alike(tmp_path: Path) -> None:
    verdicts = iter(["[[A]]", "[[B]]", "[[tie]]", "what?", "[[A]]", "[[A]]", "[[B]]"])
    answers = [answer("base", n, f"base {n}") for n in range(1, 5)] + [
        answer("new", n, f"new {n}") for n in range(1, 4)
    ]
    with serving(lambda body, before: next(verdicts, "[[A]]")) as server:
        at = judged(server, tmp_path)
        comparisons = alpaca.judge(at, [*answers, answer("new", 4, "")])
        files = alpaca.found(at, [*answers, answer("new", 4, "")], comparisons).files
    names = {f"alpaca_eval/base/{name}.json" for name in ("model_outputs", "annotations")}
    assert names < set(files) and set(files) - names == {
        f"alpaca_eval/new/{name}.json" for name in ("model_outputs", "annotations", "annotations.base")
    }
    summary = summarise(answers, [], comparisons, "base", 50, 0)
    for win in summary["win_rates"]:
        behind = ".base" if win["baseline"] == "base" else ""
        file = tmp_path / "annotations.json"
        file.write_text(files[f"alpaca_eval/{win['model']}/annotations{behind}.json"])
        found = standing(file).win
        same = ("model", "baseline", "length", "length_gap", "win_rate", "se")
        assert {name: found[name] for name in same} == {name: pytest.approx(win[name]) for name in same}
        assert counts(found) == counts(win)
    outputs = json.loads(files["alpaca_eval/new/model_outputs.json"])
    assert outputs[3] == {"dataset": "", "instruction": "say 3", "output": "", "generator": "new"}


def judged(server: Scripted, tmp_path: Path, **more: Any) -> Bench:
    rows = {"i": ROWS, **more.pop("rows", {})}
    ends = {"j": Endpoint(base_url=server.url, model="m", max_concurrency=1)}
    return bench(section(**more), tmp_path, rows, {"base": tmp_path, "new": tmp_path}, ends)


def letter(body: Mapping[str, Any], likely: Mapping[str, float] | None) -> Any:
    """A reply of one token, with the log-probabilities of the likeliest ones."""
    top = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in (likely or {}).items()]
    logprobs = {"content": [{"token": "A", "logprob": -0.1, "bytes": None, "top_logprobs": top}]} if top else None
    choice = {"index": 0, "message": {"role": "assistant", "content": "A"}, "finish_reason": "length"}
    return 200, {"choices": [{**choice, "logprobs": logprobs}], "model": body["model"]}, {}


def test_preference_by_probabilities(tmp_path: Path) -> None:
    likely = {"A": 0.5, " A": 0.1, "B": 0.2, "The": 0.1}  # A has 0.6 of 0.8
    answers = [answer("base", n, f"base {n}") for n in range(1, 5)] + [
        answer("new", n, f"new {n}") for n in range(1, 5)
    ]
    with serving(lambda body, before: letter(body, likely)) as server:
        found = alpaca.judge(judged(server, tmp_path, preference="probabilities"), answers)
        asked = len(server.calls)
        assert asked == 12  # two models against the reference, one against the other
        assert all((c["max_tokens"], c["logprobs"], c["top_logprobs"]) == (1, True, 5) for c in server.calls)
        again = alpaca.judge(judged(server, tmp_path, preference="probabilities"), answers)
        assert len(server.calls) == asked  # the journal keeps the probabilities
    assert again == found
    for one in found:
        assert one["preference"] == pytest.approx(0.75 if one["model_first"] else 0.25)
    assert {one["model_first"] for one in found} == {True, False}


@pytest.mark.parametrize(
    ("likely", "preference", "error"),
    [
        (None, 1.0, None),  # an endpoint without log-probabilities: the letter counts whole
        ({"A": 0.9}, 1.0, None),  # B is not among the likeliest
        ({"I": 0.9, "a": 0.1}, None, "unreadable verdict"),
    ],
)
def test_letters_that_are_missing(likely: Any, preference: float | None, error: str | None, tmp_path: Path) -> None:
    with serving(lambda body, before: letter(body, likely)) as server:
        (one,) = alpaca.judge(judged(server, tmp_path, preference="probabilities"), [answer("new", 1, "x")])
    other = None if preference is None else 1 - preference
    assert (one["preference"], one["error"]) == (preference if one["model_first"] else other, error)


def test_peers_are_judged_beside_the_models(tmp_path: Path) -> None:
    texts = [(0, "old"), (0, "p"), (1, None), (2, "$ERROR$")]
    peer = [{"instruction": f"say {number}", "output": text, "generator": "them"} for number, text in texts]
    with serving(lambda body, before: "[[A]]") as server:
        at = judged(server, tmp_path, answers={"them": "p"}, rows={"p": write(tmp_path / "p.json", peer)})
        alpaca.check(at)
        found = alpaca.peers(at)
        said = [(one["question_id"], one["answer"], one["error"]) for one in found]
        # The first is replaced by its newer one; the fourth instruction has no output in the file.
        assert said == [("1", "p", None), ("2", None, "no answer"), ("3", None, "no answer")]
        rows = alpaca.judge(at, [answer("base", n, "b") for n in (1, 2)] + found)
    by = {(one["model"], one["baseline"], one["question_id"]): one["preference"] for one in rows}
    assert len(server.calls) == 4  # "p" against base and reference, base's two against the reference
    assert by["them", "ref", "2"] == by["them", "ref", "3"] == by["them", "base", "2"] == 0.0


@pytest.mark.parametrize(
    ("instructions", "peer", "said"),
    [
        ([*ROWS, {"instruction": "x", "output": "y", "generator": "g"}], None, r"i.*:5: a reference of g among"),
        (
            [{"instruction": "x", "output": "y", "generator": "new"}],
            None,
            r":1: the reference is called new, as a model",
        ),
        ([{"instruction": " "}], None, r"evaluate\.instructions: .*:1: instruction must be a text"),
        ([{"instruction": "x", "output": 3}], None, r":1: output must be a text"),
        (ROWS, [{"instruction": "none", "output": "y", "generator": "g"}], r"them: .*:1: no such instruction"),
        (
            ROWS,
            [{"instruction": f"say {n}", "output": "y", "generator": "ab"[n]} for n in (0, 1)],
            r"answers, them: .*:2: an output of b among those of a",
        ),
        (ROWS, [{"prompt": "say 0"}], r"them: .*:1: neither AlpacaEval's form"),
        (ROWS, [{"instruction": "say 0", "generator": "a"}], r"them: .*:1: no output"),
        (ROWS, [], "the file is empty"),
        ([], None, "the file is empty"),
    ],
)
def test_bad_files_are_refused(instructions: Any, peer: Any, said: str, tmp_path: Path) -> None:
    named = {} if peer is None else {"them": "p"}
    with pytest.raises(DataError, match=said):
        alpaca.check(bench(section(answers=named), tmp_path, {"i": instructions, "p": peer or ()}, {"new": tmp_path}))


def test_files_come_over_http_as_they_are_called_there(tmp_path: Path) -> None:
    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(ROWS).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print enough."""

    with listening(Files) as url:
        at = bench(section(instructions=f"{url}/alpaca_eval.json?download=1"), tmp_path)
    assert [row["instruction"] for _, row in at.rows(at.section.instructions)] == [f"say {n}" for n in range(4)]
    alpaca.check(at)
