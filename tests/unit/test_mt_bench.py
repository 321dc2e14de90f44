"""MT-Bench in an evaluation: prompts, temperatures, failures, FastChat's files back and forth."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.benching import bench
from tests.fastchat_rows import PROMPTS, QUESTIONS, Row, answered, written
from tests.openai_server import Scripted, serving
from zephyr.evals import judge, mt_bench
from zephyr.evals.answers import Said, Speaker
from zephyr.evals.mt_bench import published
from zephyr.schema import Answer, Message, Score
from zephyr.sections import Endpoint, Evaluate, Safety


class Tells(Speaker):
    """A model with a script, which keeps how it was asked."""

    def __init__(self, say: Callable[[str], str]) -> None:
        self.say = say
        self.heat: list[tuple[str, float]] = []

    def __call__(
        self, talks: Sequence[Sequence[Message]], temperatures: Sequence[float], max_tokens: int
    ) -> list[Said]:
        asked = [talk[-1]["content"] for talk in talks]
        self.heat += zip(asked, temperatures, strict=True)
        return [Said(self.say(text), 1) for text in asked]


class World:
    """An evaluation's files, and a judge that gives what `rate` makes of its prompt."""

    def __init__(self, tmp_path: Path, rate: Callable[[str], str] = lambda text: "So.\nRating: [[7]]") -> None:
        self.tmp_path, self.rate = tmp_path, rate
        self.rows: dict[str, list[Row]] = {"q": QUESTIONS}
        self.section: dict[str, Any] = {}
        self.url: str | None = None
        """As the recipe writes it; None: the server's own, a new one with each run."""

    def run(self, say: Callable[[str], str] = lambda text: f"said {text}") -> "Found":
        section = Evaluate(questions="q", judge="j", bootstrap=20, safety=Safety(prompts=()), **self.section)
        speaker = Tells(say)
        with (
            serving(lambda body, before: self.rate(body["messages"][-1]["content"])) as server,
            pytest.MonkeyPatch.context() as environment,
        ):
            environment.setenv("WORLD_URL", server.url)
            ends = {"j": Endpoint(base_url=self.url or server.url, model="org/gpt")}
            work = bench(section, self.tmp_path, self.rows, {}, ends)
            mt_bench.check(work)
            answers = mt_bench.answer(work, "new", speaker) + mt_bench.peers(work)
            scores = mt_bench.judge(work, answers)
            part = mt_bench.found(work, answers, scores)
        return Found(answers, scores, part, speaker, server)


class Found:
    def __init__(self, answers: list[Answer], scores: list[Score], part: Any, speaker: Tells, server: Scripted) -> None:
        self.answers, self.scores, self.part, self.speaker = answers, scores, part, speaker
        self.asked = [call["messages"] for call in server.calls]

    def means(self, model: str = "new") -> dict[str, float]:
        return {name: value["mean"] for name, value in self.part.figures[model].items()}

    def lines(self, name: str) -> list[Row]:
        return [json.loads(line) for line in self.part.files[name].splitlines()]


def test_prompts_go_by_category_reference_and_turn(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.section = {"references": "r", "judge_prompts": "p"}
    world.rows |= {"r": [answered(81, "w1", "w2"), answered(111, "2", "3")], "p": PROMPTS}
    found = world.run()
    # Of writing the protocol shows no reference, and question 112 has none.
    assert {(s["question_id"], s["turn"]): s["judge_prompt"] for s in found.scores} == {
        ("81", 1): "single-v1",
        ("81", 2): "single-v1-multi-turn",
        ("111", 1): "single-math-v1",
        ("111", 2): "single-math-v1-multi-turn",
        ("112", 1): "single-v1",
        ("112", 2): "single-v1-multi-turn",
    }
    asked = sorted(messages[-1]["content"] for messages in found.asked)
    assert asked[0] == "single-math-v1-multi-turn|answer_1=said 1 + 1?|answer_2=said and 1?|question_1=1 + 1?|" + (
        "question_2=and 1?|ref_answer_1=2|ref_answer_2=3"
    )
    assert asked[1] == "single-math-v1|answer=said 1 + 1?|question=1 + 1?|ref_answer_1=2"
    assert asked[-1] == "single-v1|answer=said write|question=write"
    systems = {
        tuple(m["content"] for m in messages[:-1]) for messages in found.asked if "multi" in messages[-1]["content"]
    }
    assert systems == {("Judge.",)}
    assert found.part.summary["without_reference"] == 1  # question 112
    assert "not shown" not in repr(found.asked)


def test_temperatures_go_by_category(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.rows["q"] = [*QUESTIONS, {"question_id": "own", "category": "cooking", "turns": ["bake", "again"]}]
    heat = dict(world.run().speaker.heat)
    free = dict.fromkeys(("write", "shorter", "bake", "again"), 0.7)
    assert heat == free | dict.fromkeys(("1 + 1?", "and 1?", "2 + 2?", "and 2?"), 0.0)


def test_failed_answers_are_counted_and_never_judged(tmp_path: Path) -> None:
    world = World(tmp_path, lambda text: "[[9]]" if "write\n" in text else "no grade" if "2 + 2" in text else "[3]")
    world.section = {"answers": {"peer": "a"}}
    world.rows["a"] = [
        answered(81, "peer write", "$ERROR$", tstamp=3.0),
        answered(81, "old write", "old", tstamp=2.0),
        answered(111, None, "second"),
    ]
    found = world.run(lambda text: "" if text == "shorter" else f"new {text}")
    peer = {(s["question_id"], s["turn"]): (s["score"], s["error"]) for s in found.scores if s["model"] == "peer"}
    assert peer == {
        ("81", 1): (9.0, None),
        ("81", 2): (None, "no answer"),
        ("111", 1): (None, "no answer"),
        ("111", 2): (None, "no answer"),  # it builds on one that failed
        ("112", 1): (None, "no answer"),  # not in the file
        ("112", 2): (None, "no answer"),
    }
    assert "ERROR" not in repr(found.asked) and "old" not in repr(found.asked)
    assert found.means("peer") == {"score": 9.0, "score.turn_1": 9.0, "score.writing": 9.0, "unread": 0.0}
    assert found.part.summary["models"]["peer"] == {"turns": 6, "scored": 1, "empty": 0, "not_judged": 5, "unread": 0}
    # An empty answer is the model's own and gets a 1 without a call; what isn't read is left out: (9 + 1 + 3 + 3) / 4
    assert found.means()["score"] == 4.0
    assert found.means()["unread"] == 40.0  # two of five
    assert found.part.summary["models"]["new"] == {"turns": 6, "scored": 4, "empty": 1, "not_judged": 0, "unread": 2}
    assert len(found.asked) == 5 + 1


def test_files_tell_the_same_when_they_are_read_back(tmp_path: Path) -> None:
    world = World(tmp_path, lambda text: f"[[{1 + len(text) % 9}.5]]" if "write\n" in text else "no")
    world.section = {"answers": {"peer": "a"}}
    world.rows["a"] = [answered(81, "of a peer", "$ERROR$"), answered(112, "4")]
    first = world.run(lambda text: "" if text == "and 1?" else text)
    again = World(tmp_path)
    again.section = {"answers": {"peer": "a", "other": "b"}}
    again.rows |= {"a": first.lines("mt_bench/model_answer/peer.jsonl")}
    again.rows |= {"b": first.lines("mt_bench/model_answer/new.jsonl")}
    assert said(again.run().answers, "peer") == said(first.answers, "peer")
    assert said(again.run().answers, "other") == said(first.answers, "new")

    rows = first.lines("mt_bench/model_judgment/org_gpt_single.jsonl")
    known = published.questions(written(tmp_path / "q.jsonl", QUESTIONS))
    found, replaced = published.standings([written(tmp_path / "j.jsonl", rows)], known)
    assert {(one.model, one.judge, one.with_failed) for one in found} == {
        ("new", "org/gpt", None),
        ("peer", "org/gpt", None),
    }
    assert replaced == 0
    for one in found:
        ours, public = first.part.figures[one.model], dict(one.figures)
        assert {name: (value["mean"], value["n"]) for name, value in ours.items() if name != "unread"} == {
            name: (value["mean"], value["n"]) for name, value in public.items() if name != "unread"
        }  # the intervals differ: 20 resamples here, 2,000 there
        # What public tools make of it: all but -1, whoever failed.
        read = [row["score"] for row in rows if row["model"] == one.model and row["score"] != -1]
        assert sum(read) / len(read) == ours["score"]["mean"]
        own = first.part.summary["models"][one.model]
        assert [one.counts[name] for name in ("turns", "scored", "not_judged", "unread", "missing")] == [
            *(own[name] for name in ("turns", "scored", "not_judged", "unread")),
            0,
        ]
    assert {row["question_id"] for row in rows} == {81, 111, 112}
    assert {tuple(row["judge"]) for row in rows} == {
        ("org/gpt", "zephyr-single-v1"),
        ("org/gpt", "zephyr-single-v1-multi-turn"),
    }


def said(answers: Sequence[Answer], model: str) -> list[tuple[str | None, str | None]]:
    return [(answer["answer"], answer["error"]) for answer in answers if answer["model"] == model]


def test_a_rerun_writes_the_same_files(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.url = "${WORLD_URL}"
    first = world.run()
    assert len(first.asked) == 6
    second = world.run()
    assert second.asked == []  # journalled
    assert second.part.files == first.part.files
    assert len(second.lines("mt_bench/model_judgment/org_gpt_single.jsonl")) == 6


def test_another_server_s_model_of_the_same_name_is_another_judge(tmp_path: Path) -> None:
    first = World(tmp_path, lambda text: "[[7]]").run()
    second = World(tmp_path, lambda text: "[[3]]").run()  # over the same journal
    assert len(second.asked) == len(first.asked) == 6
    assert (first.means()["score"], second.means()["score"]) == (7.0, 3.0)


def test_corrected_references_change_the_score_s_name(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.section = {"references": "r", "corrections": "c", "judge_prompts": "p"}
    world.rows |= {
        "r": [answered(111, "5", "6"), answered(112, "4", "6")],
        "c": [answered(111, "2", "3")],
        "p": PROMPTS,
    }
    found = world.run()
    assert found.means() == dict.fromkeys(
        ["score_corrected", *(f"score_corrected.{part}" for part in ("turn_1", "turn_2", "writing", "math"))], 7.0
    ) | {"unread": 0.0}
    shown = {m[-1]["content"].partition("ref_answer_1=")[2][:1] for m in found.asked}
    assert shown == {"", "2", "4"}
    assert (found.part.summary["name"], found.part.summary["corrected"]) == ("score_corrected", 1)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Rating: [[8]]", 8.0),
        ("Rating: [[8.5]], not [[2]]", 8.5),
        ("Rating: [8]", 8.0),
        ("As in [2] I say [[9]]", 9.0),  # double brackets go first, wherever they are
        ("Rating: [[11]], or [5]", None),
        ("Rating: [[-1]]", None),
        ("Rating: 8/10", None),
        ("", None),
    ],
)
def test_scores_are_read_as_published(reply: str, score: float | None) -> None:
    assert judge.read_grade(reply)[0] == score


def test_the_embedded_judge_reads_all_four_of_our_prompts() -> None:
    from zephyr.tiny import world
    from zephyr.tiny.judge import judge as reply

    (task,) = (task for task in world.tasks(8, "test", "0") if task.family == "math")
    right, wrong = [turn.answers[0] for turn in task.turns], [turn.mistakes[0] for turn in task.turns]
    for turns in (1, 2):
        for references in ((), right[:turns]):
            grades = []
            for said in (right, wrong):
                (message,) = judge.grading(list(zip(task.prompts, said, strict=True))[:turns], references)
                grades.append(
                    judge.read_grade(
                        reply("tiny-judge", [{"role": message["role"], "content": message["content"]}], "0")
                    )
                )
            assert [correct for _, correct in grades] == [True, False]
            high, low = (score for score, _ in grades)
            assert high is not None and low is not None and high > low


def test_the_embedded_judge_grades_other_questions_by_their_form() -> None:
    from zephyr.tiny.judge import judge as reply

    grades = []
    for said in ("The museums of Paris are the Louvre, the Orsay and many more.", "no"):
        (message,) = judge.grading([("Which museums are there in Paris?", said)])
        text = reply("tiny-judge", [{"role": "user", "content": message["content"]}], "0")
        assert text.startswith("By its form alone, not by its truth: ")
        grades.append(judge.read_grade(text))
    # Neither is known to be right; the second is short and takes up nothing that was asked for.
    assert [correct for _, correct in grades] == [None, None]
    assert (grades[0][0] or 0.0) > (grades[1][0] or 0.0)


def test_an_empty_answer_is_wrong_where_another_is_right_or_wrong(tmp_path: Path) -> None:
    def rate(text: str) -> str:
        return f"Correct: {'yes' if '1 + 1?' in text else 'n/a'}\nRating: [[8]]"

    world = World(tmp_path, rate)
    world.section = {"answers": {"peer": "a"}}
    world.rows["a"] = [answered(81, "poem", ""), answered(111, "2", ""), answered(112, "4", "6")]
    found = world.run()
    told = {(s["model"], s["question_id"], s["turn"]): s["correct"] for s in found.scores}
    # Of the writing (81) nobody's answer is right or wrong; 111's second turn shows the first, and the judge knows.
    assert told["new", "111", 2] is True and told["peer", "111", 2] is False
    assert told["new", "81", 2] is None and told["peer", "81", 2] is None
