"""Prompts that an evaluation asks: found however they are written, then blocked, dropped or accepted."""

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.feedback import lines, recipe, step
from zephyr.artifacts import Artifact
from zephyr.data.contamination import Finder, Overlap, check
from zephyr.data.questions import Question, questions
from zephyr.errors import DataError, ZephyrError
from zephyr.progress import Progress
from zephyr.recipe import load
from zephyr.sections import Contamination
from zephyr.sections.evaluation import OWN_SAFETY
from zephyr.tiny import rows

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data of ../shared/data are not here")

LONG = "Compose an engaging travel blog post about a recent trip to Hawaii with its cultural experiences and sights."
SHORT = "What happens to you if you eat watermelon seeds?"  # nine words


def found(asked: Sequence[str], prompts: Iterable[str], ngram: int = 8) -> list[Overlap]:
    """Overlaps of prompts, named by their numbers, with questions, named by theirs."""
    finder = Finder([Question("set", str(number), text) for number, text in enumerate(asked)], ngram)
    return list(finder.find((str(number), prompt) for number, prompt in enumerate(prompts)))


def kinds(asked: str, prompt: str) -> list[str]:
    return [overlap.kind for overlap in found([asked], [prompt])]


def test_equal_words_are_an_overlap_whatever_their_look() -> None:
    assert kinds(SHORT, SHORT) == ["exact"]
    assert kinds(SHORT, "  what happens to YOU,\nif you eat 'watermelon' seeds ") == ["exact"]
    assert kinds("What’s up?", "what's up") == ["exact"]
    assert kinds("你好吗？", "你好吗") == ["exact"]
    assert kinds(SHORT, "What happens to you if you eat pumpkin seeds?") == []


def test_a_question_inside_a_prompt_is_an_overlap() -> None:
    assert kinds(SHORT, f"Answer as a doctor would. {SHORT} Be brief.") == ["ngram"]  # nine words, all there
    assert kinds(SHORT, "Tell me what happens to you if you eat watermelon, please.") == []  # eight of nine
    assert kinds("What is a black hole?", "Tell me: what is a black hole? Be brief.") == []  # shorter than an n-gram


def test_half_of_a_long_question_is_an_overlap() -> None:
    said = [f"w{number}" for number in range(20)]
    other = ["x"] * 10
    assert [o.shared for o in found([" ".join(said)], [" ".join(said[:10] + other)])] == [0.5]
    assert found([" ".join(said)], [" ".join(said[:9] + other)]) == []
    both = " ".join(said[:8] + other + said[12:])  # 16 of 20 words, in two pieces
    assert [o.shared for o in found([" ".join(said)], [both])] == [0.8]


def test_of_several_questions_the_closest_is_named() -> None:
    start = [f"w{number}" for number in range(12)]
    asked = [" ".join(start + ["y"] * 8), " ".join(start + ["z"] * 4)]
    assert [o.question_id for o in found(asked, [" ".join([*start, "more"])])] == ["1"]  # 12 of 16, not 12 of 20


def changed(words: Sequence[str], share: float, rng: random.Random) -> str:
    kept = list(words)
    for place in rng.sample(range(len(kept)), max(1, round(share * len(kept)))):
        kept[place] = f"x{rng.randrange(1000)}"
    return " ".join(kept)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_questions_are_found_and_nothing_else(seed: int) -> None:
    """Of questions of 13 to 60 words: all as they are, in other dress or in a longer prompt; with a twentieth of the
    words changed 95 of 100, with a tenth 70 of 100."""
    rng = random.Random(seed)
    asked = [[f"w{rng.randrange(2000)}" for _ in range(rng.randrange(13, 61))] for _ in range(400)]
    others = [" ".join(f"w{rng.randrange(2000)}" for _ in range(rng.randrange(5, 200))) for _ in range(2000)]
    texts = [" ".join(words) for words in asked]

    def rate(prompts: Sequence[str]) -> float:
        overlaps = found(texts, [*prompts, *others])
        assert all(o.row == o.question_id for o in overlaps)  # each beside its own question, none of the others
        return len(overlaps) / len(texts)

    assert rate(texts) == 1
    assert rate([f" {text.upper().replace(' ', ',  ')}?!" for text in texts]) == 1
    assert rate([f"{rng.choice(others)} {text} {rng.choice(others)}" for text in texts]) == 1
    assert rate([changed(words, 0.05, rng) for words in asked]) >= 0.95
    assert rate([changed(words, 0.1, rng) for words in asked]) >= 0.7


def test_the_world_passes_with_its_recipe() -> None:
    """The shipped recipe's own prompts beside its own questions, for several seeds."""
    section = load("tiny").contamination
    assert section.overlap == "block"
    for seed in ("0", "1"):
        asked = [Question("q", str(n), row["turns"][0]) for n, row in enumerate(rows.questions(320, f"test{seed}"))]
        asked += [Question("i", str(n), row["instruction"]) for n, row in enumerate(rows.instructions(800, seed))]
        prompts = [row["prompt"] for row in rows.prompts(1200, seed)]
        prompts += [row["messages"][0]["content"] for row in rows.dialogues(1000, seed)]
        checked = check(zip(map(str, count()), prompts, strict=False), asked, section, Progress())
        assert checked.record == {
            "decision": "block",
            "prompts": 2200,
            "found": 0,
            "rows": 2200,
            "rows_found": 0,
            "pairs": [],
        }


def told(path: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in path.read_text().splitlines()]
    return [event for event in events if event["event"] == "contamination"]


def test_a_recipe_blocks_drops_or_accepts(tmp_path: Path) -> None:
    prompts = [("a:1", "Hello there."), ("a:2", SHORT), ("a:2", LONG), ("b:1", f"Now, {LONG}")]
    asked = [Question("mt.jsonl", "81", LONG), Question("tqa.json", "7", SHORT)]
    events = tmp_path / "progress.jsonl"
    with pytest.raises(DataError) as error:
        check(prompts, asked, Contamination(), Progress("prepare", events))
    assert str(error.value) == (
        "3 of 4 user turns, in 2 of 3 dialogues, are asked by evaluation sets, first a:2 by question 7 of tqa.json; "
        "set contamination.overlap to drop or accept, or mend the data"
    )
    (event,) = told(events)  # the report shows them although the step left nothing
    assert (event["decision"], event["prompts"], event["found"]) == ("block", 4, 3)
    assert (event["rows"], event["rows_found"]) == (3, 2)
    assert [(pair["row"], pair["question_id"], pair["kind"]) for pair in event["pairs"]] == [
        ("a:2", "7", "exact"),
        ("a:2", "81", "exact"),
        ("b:1", "81", "ngram"),
    ]
    dropped = check(prompts, asked, Contamination(overlap="drop"), Progress())
    assert dropped.dropped == {"a:2", "b:1"} and dropped.record["found"] == 3
    accepted = check(prompts, asked, Contamination(overlap="accept"), Progress())
    assert not accepted.dropped and accepted.record == dropped.record | {"decision": "accept"}


def notes(folder: Path) -> list[str]:
    events = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [event["text"] for event in events if event["event"] == "note"]


def test_prepare_says_what_was_lost(tmp_path: Path) -> None:
    given = [talk("Hi", "I have no opinions."), talk("Ho", "Yes."), talk("Ho", "No."), talk("Ho", "Well.")]
    place = lines(tmp_path / "dialogues.jsonl", *given)
    made("prepare", tmp_path, "drop", prepare={"dialogues": [place], "test_size": 0})
    assert notes(tmp_path / "drop") == ["lost 2 duplicates, 1 disclaimers"]


def talk(*said: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]}


def made(name: str, folder: Path, decision: str, **settings: Any) -> Artifact:
    """The step's artifact, with MT-Bench's form as the evaluation set."""
    tests = lines(folder / "tests.jsonl", {"question_id": 81, "category": "writing", "turns": [LONG, "Go on."]})
    contamination = {"overlap": decision, "sets": [tests]}
    given = recipe("http://127.0.0.1:1", contamination=contamination, **settings)
    return step(name, given, folder / decision, {})


def cases(folder: Path) -> dict[str, dict[str, Any]]:
    """Per step: settings by which one of three of its prompts is the question."""
    asked = ["What is rain?", LONG.upper(), "What is snow?"]
    dialogues = [talk(asked[0], "Water."), talk("Hello.", "Hello.", LONG, "Aloha!"), talk(asked[2], "Ice.")]
    pairs = [{"prompt": text, "chosen": "A good answer.", "rejected": "A bad one."} for text in asked]
    answers = [{"prompt": text, "response": f"It is {n}."} for n, text in enumerate(asked)]
    place = lines(folder / "answers.jsonl", *answers)
    return {
        "prepare": {"prepare": {"dialogues": [lines(folder / "dialogues.jsonl", *dialogues)], "test_size": 0}},
        "sample": {
            "sample": {
                "prompts": [lines(folder / "prompts.jsonl", *({"prompt": text} for text in asked))],
                "ensemble": ["one", "two"],
                "per_prompt": 2,
                "replay": {"one": place, "two": place},
            }
        },
        "pair": {"pair": {"pairs": [lines(folder / "pairs.jsonl", *pairs)], "test_size": 0}},
    }


@pytest.mark.parametrize("name", ["prepare", "sample", "pair"])
def test_every_step_that_takes_prompts_compares_them(tmp_path: Path, name: str) -> None:
    settings = cases(tmp_path)[name]
    said = "1 of 4 user turns, in 1 of 3 dialogues," if name == "prepare" else "1 of 3 training prompts"
    with pytest.raises(ZephyrError, match=f"^{said} are asked by evaluation sets"):
        made(name, tmp_path, "block", **settings)
    assert told(tmp_path / "block" / "progress.jsonl")[0]["found"] == 1
    accepted, dropped = (made(name, tmp_path, decision, **settings) for decision in ("accept", "drop"))
    for artifact, decision in ((accepted, "accept"), (dropped, "drop")):
        assert artifact.json("contamination")["decision"] == decision
        assert artifact.json("contamination")["pairs"][0]["question_id"] == "81"
        fate = {"accept": "are trained on", "drop": "are left out"}[decision]
        assert f"{said} are asked by evaluation sets, and {fate}" in notes(tmp_path / decision)
    table = "completions" if name == "sample" else "train"
    prompts = [Counter(row["prompt"] for row in artifact.table(table)) for artifact in (accepted, dropped)]
    assert len(prompts[0]) == 3 and len(prompts[1]) == 2 and prompts[1] < prompts[0]
    assert dropped.json("counts")["contaminated"] == 1 and accepted.json("counts")["contaminated"] == 0


def test_requests_that_a_safety_file_asks_are_not_trained_on(tmp_path: Path) -> None:
    """HarmBench's form; Zephyr's own requests are in every recipe, and in nobody's data."""
    place = lines(tmp_path / "harm.jsonl", {"Behavior": LONG, "SemanticCategory": "travel"})
    settings = cases(tmp_path)["prepare"]
    given = recipe("http://127.0.0.1:1", evaluate={"safety": {"prompts": [OWN_SAFETY, place]}}, **settings)
    assert given.evaluation_sets == (place,)
    with pytest.raises(ZephyrError, match=r"^1 of 4 user turns, in 1 of 3 dialogues, are asked by evaluation sets"):
        step("prepare", given, tmp_path / "safety", {})


def test_what_another_evaluation_finds_leaves_the_data_the_same(tmp_path: Path) -> None:
    settings = cases(tmp_path)["prepare"]
    with_one = made("prepare", tmp_path, "accept", **settings)
    without = step("prepare", recipe("http://127.0.0.1:1", **settings), tmp_path / "none", {})
    assert "contamination.json" in with_one.manifest.files and "contamination.json" not in without.manifest.files
    assert with_one.digest == without.digest


REAL = {
    "mt_bench/question.jsonl": 124,  # 80 first turns, and the second turns of 13 words or more
    "alpaca_eval/text_davinci_003.json": 803,
    "instructions/ifeval_input_data.jsonl": 541,
    "open_llm/truthfulqa_mc_task.json": 816,
    "open_llm/mmlu_dev": 284,
    "open_llm/arc_challenge_val_5shot_requests.jsonl.gz": 299,
    "open_llm/hellaswag_val1000_5shot_requests.jsonl.gz": 1000,
}


def jsonl(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SHARED / name).read_text().splitlines()]


@real
def test_real_data_overlap_where_they_do_and_nowhere_else() -> None:
    asked = questions({name: SHARED / name for name in REAL})
    assert Counter(question.set for question in asked) == REAL
    finder = Finder(asked, Contamination().ngram)

    def overlaps(prompts: Iterable[str]) -> list[Overlap]:
        return list(finder.find(zip(map(str, count()), prompts, strict=False)))

    turns = [m["content"] for row in jsonl("ultrachat/ultrachat_small.jsonl") for m in row["messages"]]
    prompts = [row["prompt"] for row in jsonl("ultrafeedback/ultrafeedback_binarized_train1000.jsonl")]
    seeds = [row["instruction"] for row in jsonl("instructions/self_instruct_seed_tasks.jsonl")]
    assert len(turns[::2]) == 2492 and overlaps([*turns[::2], *prompts, *seeds]) == []
    # UltraChat's evaluation prompts take in MT-Bench's, AlpacaEval's and TruthfulQA's: all 82 have the very same words.
    evaluation = [row["data"] for row in json.loads((SHARED / "ultrachat/ultra_eval.json").read_text())]
    assert Counter((o.set.split("/")[0], o.kind) for o in overlaps(evaluation)) == {
        ("alpaca_eval", "exact"): 79,
        ("mt_bench", "exact"): 2,
        ("open_llm", "exact"): 1,
    }
    # The leak of UltraFeedback: TruthfulQA's questions among the prompts.
    leak = [question.text for question in asked if "truthful" in question.set]
    assert len(overlaps([*prompts, *leak])) == 816
