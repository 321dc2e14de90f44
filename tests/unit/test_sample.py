"""Sampling: what is drawn, by what principle and with what settings; completions from files; prompts and shards."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.feedback import feedback, lines, recipe, step
from tests.openai_server import serving
from zephyr.account import Account
from zephyr.errors import DataError, RecipeError
from zephyr.feedback import asked, principles, replay
from zephyr.feedback.sample import NO_ANSWER, draw, figures, sample
from zephyr.progress import Progress
from zephyr.recipe import check
from zephyr.schema import prompt_id
from zephyr.sections import Endpoint, Sample
from zephyr.tiny.rows import dialogues
from zephyr.tiny.rows import prompts as world_prompts
from zephyr.tiny.server import running

NAMES = ("a", "b", "c", "d", "e")
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def test_the_draw_depends_on_seed_and_prompt_alone() -> None:
    section = Sample(ensemble=NAMES, per_prompt=4)
    drawn = {prompt: draw(prompt, section, 0) for prompt in map(str, range(200))}
    assert drawn["7"] == draw("7", section, 0)
    assert all(len(set(names)) == 4 for names in drawn.values())
    # Each of 5 models is left out of a fifth of the prompts: 40 of 200, give or take four deviations of 5.7.
    for name in NAMES:
        assert 17 <= sum(name not in names for names in drawn.values()) <= 63


def test_sampled_rows_say_who_failed(tmp_path: Path) -> None:
    def reply(body: dict[str, Any], before: int) -> Any:
        if body["model"] == "bad":
            return 400, {"error": {"message": "no", "type": "t", "code": "c"}}, {}
        return "fine"

    with serving(reply) as server:
        ends = {name: Endpoint(base_url=server.url, model=name) for name in ("good", "bad")}
        section = Sample(ensemble=("good", "bad"), per_prompt=2)
        rows = sample([asked.plain("p"), asked.plain("q")], section, ends, {}, 0, Account(tmp_path), Progress())
    found = {(row["prompt"], row["model"]): row["response"] for row in rows}
    assert found == {("p", "good"): "fine", ("p", "bad"): None, ("q", "good"): "fine", ("q", "bad"): None}
    assert all((row["error"] is None) == (row["response"] == "fine") for row in rows)
    assert figures(rows) == {"completions": 4, "failed": 2}


def test_a_reply_with_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    with serving(lambda body, before: "caf\ud800e \U0001f600") as server:
        ends = {"a": Endpoint(base_url=server.url, model="a")}
        section = Sample(ensemble=("a",), per_prompt=1)
        (row,) = sample([asked.plain("p")], section, ends, {}, 0, Account(tmp_path), Progress())
    assert row["response"] == "caf\ufffde \U0001f600"


def test_principles_are_mixed_by_source() -> None:
    mix = {"quiz": {"truthfulness": 3, "honesty": 1}, "default": {"helpfulness": 1}}
    section = Sample(ensemble=("a",), principles=mix)  # type: ignore[arg-type]
    drawn = [principles.drawn(section, 0, str(number), "quiz", "a") for number in range(400)]
    counts = Counter(one.principle for one in drawn)
    assert set(counts) == {"truthfulness", "honesty"}
    assert abs(counts["truthfulness"] - 300) < 35  # four deviations of sqrt(400 x 0.75 x 0.25) = 8.7
    texts = {one.system_prompt for one in drawn if one.principle == "honesty"}
    assert texts == set(principles.shipped()["system_prompts"]["honesty"])  # each of them is drawn
    assert principles.drawn(section, 0, "x", "other", "a").principle == "helpfulness"
    assert principles.drawn(section, 0, "7", "quiz", "a") == drawn[7]
    assert principles.drawn(Sample(ensemble=("a",)), 0, "x", "quiz", "a") == (None, None)
    only = Sample(ensemble=("a",), principles={"quiz": {"honesty": 1}})
    assert principles.drawn(only, 0, "x", "other", "a") == (None, None)


def test_the_published_mix() -> None:
    """Percentages of UltraFeedback's README; each row makes 100, and each principle has system prompts."""
    mix = principles.shipped()["mixes"]["ultrafeedback"]
    assert all(sum(weights.values()) == 100 for weights in mix.values())
    assert mix["sharegpt"] == {"helpfulness": 60, "truthfulness": 20, "honesty": 18, "verbalized_calibration": 2}
    texts = principles.shipped()["system_prompts"]
    assert set(texts) == {name for weights in mix.values() for name in weights}
    assert all(len(set(some)) == len(some) >= 3 for some in texts.values())
    section = Sample(ensemble=("a",), principles="ultrafeedback")
    assert principles.drawn(section, 0, "x", "evol_instruct", "a").principle == "helpfulness"
    assert principles.drawn(section, 0, "x", "truthful_qa", "a").principle == "truthfulness"


def test_each_model_is_asked_in_its_way(tmp_path: Path) -> None:
    with serving(lambda body, before: "fine") as server:
        ends = {name: Endpoint(base_url=server.url, model=name) for name in "ab"}
        own = {"b": {"temperature": 0.2, "max_tokens": 7, "stop": ["</s>"]}}
        section = Sample(
            ensemble=("a", "b"), per_prompt=2, top_p=0.9, principles={"default": {"honesty": 1}}, models=own
        )  # type: ignore[arg-type]
        rows = sample([asked.plain("p")], section, ends, {}, 0, Account(tmp_path), Progress())
    sent = {call["model"]: call for call in server.calls}
    assert [sent[name]["temperature"] for name in "ab"] == [1.0, 0.2]
    assert [sent[name]["max_tokens"] for name in "ab"] == [1024, 7]
    assert sent["b"]["stop"] == ["</s>"] and "stop" not in sent["a"]
    assert {call["top_p"] for call in server.calls} == {0.9}
    for row in rows:
        system, user = sent[row["model"]]["messages"]
        assert (system, user["content"]) == ({"role": "system", "content": row["system_prompt"]}, "p")
        assert row["principle"] == "honesty"


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ({"ensemble": ["a", "a"]}, "`a` stands there twice"),
        ({"ensemble": ["a"], "replay": {"b": "x.jsonl"}}, "replay.b: not in sample.ensemble"),
        ({"ensemble": ["a"], "replay": {"a": "x.jsonl"}, "models": {"a": {}}}, "models.a: no endpoint"),
        ({"ensemble": ["a", "b"], "per_prompt": 2}, "sample.ensemble: no endpoint `a`"),
        ({"ensemble": ["a"], "principles": {"x": {"kindness": 1}}}, "principles"),
        ({"ensemble": ["a"], "principles": {"x": {}}}, "principles"),
    ],
)
def test_what_a_recipe_may_not_say(sample: dict[str, Any], said: str) -> None:
    ends = {"teacher": {"base_url": "http://x", "model": "m"}}
    with pytest.raises(RecipeError, match=said):
        check({"name": "t", "endpoints": ends, "model": {"base": "b"}, "sample": sample})


def test_prompts_and_what_is_known_of_them(tmp_path: Path) -> None:
    rows = lines(
        tmp_path / "rows.jsonl",
        {"prompt": "Hi", "source": "quiz", "correct_answers": ["None"], "incorrect_answers": ["Ho"], "note": ""},
        {"instruction": "What?", "reference": "That."},
        {"question_id": 81, "turns": ["First", "Second"]},
    )
    found = dict(asked.read({"quiz.jsonl": Path(rows)}, {}))
    assert list(found) == ["quiz.jsonl:1", "quiz.jsonl:2", "quiz.jsonl:3"]
    hi, what, first = found.values()
    assert (hi["source"], hi["correct_answers"], hi["incorrect_answers"], hi["note"]) == ("quiz", [], ["Ho"], None)
    assert (what["prompt"], what["reference"], what["source"]) == ("What?", "That.", "")
    assert (first["prompt"], first["question_id"]) == ("First", "81")
    mapped = lines(tmp_path / "mapped.jsonl", {"q": "Hi", "kind": "quiz", "gold": "Ho"})
    ((_, row),) = asked.read({"m": Path(mapped)}, {"prompt": "q", "source": "kind", "correct_answers": "gold"})
    assert (row["prompt"], row["source"], row["correct_answers"]) == ("Hi", "quiz", ["Ho"])


@pytest.mark.parametrize(
    ("row", "columns", "said"),
    [
        ({"prompt": " "}, {}, r":2: no `prompt` text"),
        ({"prompt": "p"}, {"prompt": "q"}, r":2: no `q` text"),
        ({"prompt": "p"}, {"source": "kind"}, r":2: no column `kind` \(sample.columns.source\)"),
        ({"prompt": "p", "source": ["x"]}, {}, r":2: `source` is no text"),
        ({"prompt": "p \ud800"}, {}, r":2: holds half a surrogate pair"),
        ({"prompt": "p", "correct_answers": ["\ud800"]}, {}, r":2: holds half a surrogate pair"),
        ({"prompt": "p", "correct_answers": [1]}, {}, r":2: `correct_answers` is no list of texts"),
    ],
)
def test_odd_prompts_are_named(tmp_path: Path, row: dict[str, Any], columns: Any, said: str) -> None:
    good = {"prompt": "p", "q": "p", "kind": "x"}
    with pytest.raises(DataError, match=f"rows.jsonl{said}"):
        list(asked.read({"m": Path(lines(tmp_path / "rows.jsonl", good, row))}, columns))


def test_every_prompt_is_chosen_or_counted_in_every_shard() -> None:
    rows = [(f"m:{line}", asked.plain(text)) for line, text in enumerate("abcabcdefghij", start=1)]
    whole = asked.chosen(rows, limit=8)
    # 13 rows: a, b and c stand there twice; of ten different ones i and j are beyond the limit
    counts = {"read": 13, "duplicates": 3, "beyond_limit": 2, "contaminated": 0, "prompts": 8}
    assert whole.counts == counts and list(whole.prompts)[2:4] == ["m:3", "m:7"]
    parts = [asked.chosen(rows, 8, f"{part}/3") for part in (1, 2, 3)]
    assert {name: sum(part.counts[name] for part in parts) for name in counts} == counts
    joined = {row: prompt for part in parts for row, prompt in part.prompts.items()}
    assert joined == whole.prompts and all(part.prompts for part in parts)
    assert {asked.shard_of(prompt_id(str(n)), 4) for n in range(50)} == {1, 2, 3, 4}
    less = whole.without(frozenset(["m:3", "m:5"]))  # m:5 is a duplicate, gone already
    assert less.counts == counts | {"contaminated": 1, "prompts": 7} and "m:3" not in less.prompts


def test_prompts_that_an_evaluation_asks(tmp_path: Path) -> None:
    rows = lines(tmp_path / "prompts.jsonl", {"prompt": "What is 7 plus 5?"}, {"prompt": "What is 7 plus 6?"})
    test = lines(tmp_path / "test.jsonl", {"question_id": 1, "turns": ["what is 7 plus 5"]})
    section = {"prompts": [rows], "ensemble": ["strong", "good"], "per_prompt": 2}
    with running() as url:
        blocking = recipe(url, sample=section, contamination={"sets": [test]})
        with pytest.raises(DataError, match=r"prompts.jsonl:1 by question 1"):
            step("sample", blocking, tmp_path / "blocked", {})
        dropping = recipe(url, sample=section, contamination={"sets": [test], "overlap": "drop"})
        made = step("sample", dropping, tmp_path / "dropped", {})
    assert [row["prompt"] for row in made.table("prompts")] == ["What is 7 plus 6?"]
    counts = made.json("counts")
    assert (counts["read"], counts["contaminated"], counts["prompts"], counts["completions"]) == (2, 1, 1, 2)
    assert made.json("contamination")["pairs"][0]["kind"] == "exact"


def test_the_union_of_shards_is_the_single_run(tmp_path: Path) -> None:
    rows = lines(tmp_path / "prompts.jsonl", *world_prompts(24, "s"))
    section = {"prompts": [rows], "ensemble": ["strong", "good", "fair", "weak"], "per_prompt": 2, "max_tokens": 64}
    with running() as url:
        given = recipe(url, sample=section | {"principles": "ultrafeedback"}, rate={"judge": "judge"})
        (tmp_path / "one").mkdir()
        (tmp_path / "cut").mkdir()
        (completions,), (ratings,), pairs = feedback(given, tmp_path / "one")
        parts, rated, joined = feedback(given, tmp_path / "cut", shards=3)
    for name, whole, cut in (
        ("prompts", completions, parts),
        ("completions", completions, parts),
        ("ratings", ratings, rated),
    ):
        order = {row["prompt_id"]: place for place, row in enumerate(completions.table("prompts"))}
        union = sorted((row for part in cut for row in part.table(name)), key=lambda row: order[row["prompt_id"]])
        assert union == whole.table(name)
        assert all(len(part.table(name)) < len(union) for part in cut)
    assert joined.table("train") == pairs.table("train") and pairs.table("train")
    assert completions.json("counts") == {"read": 24, "prompts": 24, "completions": 48} | dict.fromkeys(
        ("duplicates", "beyond_limit", "contaminated", "failed"), 0
    )


def test_without_prompts_the_dialogues_are_asked(tmp_path: Path) -> None:
    rows = lines(tmp_path / "dialogues.jsonl", *dialogues(12, "s"))
    section = {"ensemble": ["strong", "weak"], "per_prompt": 2}
    with running() as url:
        given = recipe(url, prepare={"dialogues": [rows], "test_size": 2}, sample=section)
        prepared = step("prepare", given, tmp_path, {})
        made = step("sample", given, tmp_path, {"dialogues": prepared})
    asked_for = [row["prompt"] for row in made.table("completions")]
    prompts = [row["prompt"] for row in prepared.table("train")]
    assert prompts and asked_for == [prompt for prompt in prompts for _ in range(2)]


def test_files_with_completions_in_their_forms(tmp_path: Path) -> None:
    p, q = prompt_id("p"), prompt_id("q")
    asking = {"7": {q: "prompts.jsonl:2"}}
    bench = lines(
        tmp_path / "bench.jsonl",
        {"question_id": 7, "choices": [{"index": 0, "turns": ["one", "two"]}]},
        {"question_id": 8, "choices": [{"index": 0, "turns": ["not asked"]}]},
    )
    assert replay.answers("m", Path(bench), asking) == {q: "one"}
    (tmp_path / "alpaca.json").write_text(json.dumps([{"instruction": "p", "output": "yes", "generator": "g"}]))
    assert replay.answers("m", tmp_path / "alpaca.json", asking) == {p: "yes"}
    plain = lines(tmp_path / "plain.jsonl", {"prompt": "q", "response": "a"}, {"prompt": "q", "response": "b"})
    assert replay.answers("m", Path(plain), asking) == {q: "a"}
    with pytest.raises(DataError, match=r"bench.jsonl:1: goes by question_id, which no row of sample.prompts has"):
        replay.answers("m", Path(bench), {})
    odd = lines(tmp_path / "odd.jsonl", {"prompt": "p", "text": "a"})
    with pytest.raises(DataError, match=r"odd.jsonl:1: needs a text in prompt or instruction.*sample.replay.m"):
        replay.answers("m", Path(odd), asking)


def test_one_question_id_for_two_prompts(tmp_path: Path) -> None:
    """Whose the answer is can't be told, in no shard; answers that go by the prompt are its own."""
    rows = [{"prompt": text, "question_id": "1"} for text in ("What is 1 plus 1?", "What is 2 plus 2?")]
    prompts = lines(tmp_path / "prompts.jsonl", *rows)
    said = [{"prompt": row["prompt"], "output": f"said to {row['prompt']}"} for row in rows]
    own = lines(tmp_path / "own.jsonl", *said)
    bench = lines(tmp_path / "bench.jsonl", {"question_id": 1, "choices": [{"turns": ["2"]}]})
    section = {"prompts": [prompts], "ensemble": ["a", "b"], "per_prompt": 2}
    good = recipe("http://nowhere", sample=section | {"replay": {"a": own, "b": own}})
    found = step("sample", good, tmp_path / "good", {}).table("completions")
    assert [row["response"] for row in found] == [f"said to {row['prompt']}" for row in rows for _ in "ab"]
    bad = recipe("http://nowhere", sample=section | {"replay": {"a": bench, "b": bench}})
    for shard in ("", "1/3", "2/3", "3/3"):
        with pytest.raises(DataError, match=r"id 1 is that of two prompts, \S+prompts.jsonl:1 and \S+prompts.jsonl:2"):
            step("sample", bad, tmp_path / f"bad{shard[:1]}", {}, shard)


def test_equal_prompts_with_two_question_ids(tmp_path: Path) -> None:
    prompts = lines(tmp_path / "p.jsonl", {"prompt": "p", "question_id": "1"}, {"prompt": "p", "question_id": "2"})
    bench = lines(tmp_path / "bench.jsonl", {"question_id": 2, "choices": [{"turns": ["said"]}]})
    section = {"prompts": [prompts], "ensemble": ["a", "b"], "per_prompt": 2, "replay": {"a": bench, "b": bench}}
    made = step("sample", recipe("http://nowhere", sample=section), tmp_path, {})
    assert [row["response"] for row in made.table("completions")] == ["said", "said"]


def test_a_model_without_an_answer_is_a_counted_failure(tmp_path: Path) -> None:
    with serving(lambda body, before: "said") as server:
        section = Sample(ensemble=("file", "end"), replay={"file": "x"}, per_prompt=2, principles="ultrafeedback")
        prompts = [asked.plain("p"), asked.plain("q")]
        replayed = {"file": {prompt_id("p"): "written"}}
        ends = {"end": Endpoint(base_url=server.url, model="end")}
        rows = sample(prompts, section, ends, replayed, 0, Account(tmp_path), Progress())
    found = {(row["prompt"], row["model"]): (row["response"], row["error"], row["principle"]) for row in rows}
    assert found[("p", "file")] == ("written", None, None)  # nobody knows what principle it was written by
    assert found[("q", "file")] == (None, NO_ANSWER, None)
    assert found[("q", "end")] == ("said", None, "helpfulness")
    assert figures(rows) == {"completions": 4, "failed": 1, "not_in_file": 1}


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_real_outputs_of_alpaca_eval() -> None:
    path = DATA / "alpaca_eval" / "text_davinci_003.json"
    rows = json.loads(path.read_text())
    found = replay.answers("davinci", path, {})
    assert len(rows) == 805 and set(found) == {prompt_id(row["instruction"]) for row in rows}
    assert found[prompt_id(rows[0]["instruction"])] == rows[0]["output"]
