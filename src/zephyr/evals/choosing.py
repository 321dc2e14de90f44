"""What a judge says of answers to held-out prompts, by which a training's weights are chosen."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.account import Account
from zephyr.client import Call, complete, number
from zephyr.data.locations import checked_rows
from zephyr.errors import DataError
from zephyr.evals import judge, stats
from zephyr.progress import Progress
from zephyr.schema import Message
from zephyr.sections import Choice, Endpoint

RESAMPLES = 1000
"""For the interval, drawn by prompt."""


def prompts(path: Path, limit: int, trained: Iterable[str], progress: Progress) -> list[str]:
    """The first prompts of a file that are not trained on. Raises DataError when there are none."""
    known = set(trained)
    found = list(dict.fromkeys(prompt_of(row, place) for place, row in checked_rows(path)))
    kept = [prompt for prompt in found if prompt not in known]
    if not kept:
        raise DataError(f"{path.name}: no held-out prompt is left: the training has all {len(found)} of them")
    if len(kept) < len(found):
        progress.note(f"{len(found) - len(kept)} of {len(found)} held-out prompts are trained on, and left out")
    return kept[:limit]


def prompt_of(row: Mapping[str, Any], place: str) -> str:
    turns = row.get("turns")
    text = row.get("prompt") or row.get("instruction") or (turns[0] if isinstance(turns, list) and turns else None)
    if not isinstance(text, str):
        raise DataError(f"{place}: a held-out prompt needs a text as prompt, instruction or turns")
    return text


class Judge:
    """Grades answers, or compares them with the starting model's, each once: equal questions are journalled."""

    def __init__(
        self,
        section: Choice,
        prompts: Sequence[str],
        endpoints: Mapping[str, Endpoint],
        seed: int,
        account: Account,
        progress: Progress,
    ) -> None:
        self.prompts = prompts
        self._section = section
        self._endpoints = endpoints
        self._seed = seed
        self._account = account
        self._progress = progress
        self._graded: dict[int, dict[tuple[str, int], float]] = {}

    def __call__(self, step: int, answers: Sequence[str], start: Sequence[str]) -> Mapping[str, float]:
        """Mean grade of 10, or percent of wins over the starting model, with its 95% interval; how many could not be
        read; characters of an answer, and how many more than the starting model's. Of grades also the `change` since
        the best moment before (`change_since`, its step), with its interval, paired by prompt."""
        found = self._grades(answers) if self._section.measure == "score" else self._wins(answers, start)
        values = stats.by_question((str(n), value) for n, value in enumerate(found))
        within = stats.SCORE if self._section.measure == "score" else stats.PERCENT
        mean = stats.mean_interval(values, RESAMPLES, self._seed, within)
        if mean is None:
            raise DataError(f"choose.judge: {self._section.judge}: none of its {len(found)} replies could be read")
        length = sum(map(len, answers)) / len(answers)
        return {
            "value": mean.mean,
            "low": mean.low,
            "high": mean.high,
            "unread": float(len(found) - mean.n),
            "length": length,
            "length_gap": length - sum(map(len, start)) / len(start),
            **(self._change(step, found) if self._section.measure == "score" else {}),
        }

    def _change(self, step: int, grades: Sequence[float | None]) -> dict[str, float]:
        """The starting model's moment, step 0, is none of the training's."""
        own = {(str(n), 1): grade for n, grade in enumerate(grades) if grade is not None}
        before = {at: known for at, known in self._graded.items() if 0 < at < step}
        self._graded[step] = own
        if not before:
            return {}
        best = max(before, key=lambda at: sum(before[at].values()) / len(before[at]))
        found = stats.difference(stats.paired_differences(own, before[best]), RESAMPLES, self._seed)
        if found is None:
            return {}
        mean, low, high, _ = found.interval
        return {"change": mean, "change_low": low, "change_high": high, "change_since": float(best)}

    def _grades(self, answers: Sequence[str]) -> list[float | None]:
        """An empty answer has the lowest grade without a call."""
        asked = [
            judge.grading([(p, answer)]) if answer else None for p, answer in zip(self.prompts, answers, strict=True)
        ]
        replies = self._ask(asked, "grades of held-out answers")
        return [1.0 if talk is None else judge.read_grade(reply)[0] for talk, reply in zip(asked, replies, strict=True)]

    def _wins(self, answers: Sequence[str], start: Sequence[str]) -> list[float | None]:
        """In percent; the same text is a draw and an empty one loses, without a call."""
        found: list[float | None] = []
        sides = list(zip(self.prompts, answers, start, strict=True))
        first = [number(self._seed, "order", prompt) % 2 == 0 for prompt in self.prompts]
        asked = [
            judge.comparison(prompt, *((new, old) if ahead else (old, new)))
            if judge.settled(new, old) is None
            else None
            for (prompt, new, old), ahead in zip(sides, first, strict=True)
        ]
        replies = self._ask(asked, "comparisons of held-out answers")
        for (_, new, old), ahead, talk, reply in zip(sides, first, asked, replies, strict=True):
            share = judge.read_verdict(reply, ahead) if talk else judge.settled(new, old)
            found.append(None if share is None else 100 * share)
        return found

    def _ask(self, asked: Sequence[list[Message] | None], unit: str) -> list[str]:
        """Replies, "" where there is none or nothing was asked."""
        most = self._section.judge_max_tokens
        calls = [
            Call(self._section.judge, talk, 0.0, max_tokens=most, seed=number(self._seed, repr(talk)), judging=True)
            for talk in asked
            if talk
        ]
        replies = iter(complete(calls, self._endpoints, self._account, self._progress, unit) if calls else ())
        return [next(replies).text or "" if talk else "" for talk in asked]
