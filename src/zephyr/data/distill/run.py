"""The rounds of a distillation."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from zephyr.client import number
from zephyr.data.distill.counts import Round, total
from zephyr.data.distill.prompts import WAYS
from zephyr.data.distill.seeds import Instruction, Known, Unusable, seeds
from zephyr.data.distill.teacher import Talk, Teacher
from zephyr.errors import DataError
from zephyr.schema import Distilled, Loss, prompt_id

SHOWN = 300
"""Characters of a loss's reason: the error, what the teacher wrote instead, or the earlier prompt."""


class Distiller:
    """One distillation. `run` writes the dialogues; `rounds`, `losses` and `stopped` tell the rest."""

    def __init__(self, teacher: Teacher, work: Path) -> None:
        """`work` holds the index of prompts; it is emptied."""
        self.rounds: list[Round] = []
        self.losses: list[Loss] = []
        self.stopped: str | None = None
        """Why there are no more rounds."""
        self._teacher, self._section = teacher, teacher.section
        self._known = Known(work, self._section.near)
        self._topics: list[str] = []
        self._width = self._section.per_round or 0

    def run(self, sources: Mapping[str, Path], tolerated: int, out: Path) -> dict[str, Path]:
        """Write each round's dialogues (schema.Distilled) to a file in `out`; files by location, distill:ROUND.

        A dialogue's line in its file is its number in its round; the line of a loss is empty.
        Raises DataError when more than `tolerated` rows of seeds can't be read, or nothing comes of any.
        """
        out.mkdir(parents=True, exist_ok=True)
        made: dict[str, Path] = {}
        talks: list[Talk] = []
        while self.stopped is None:
            this = Round(len(self.rounds) + 1)
            self.rounds.append(this)
            fresh = self._refined(this, talks) if made else self._seeds(this, sources, tolerated)
            this.new = len(fresh)
            talks = self._answered(this, fresh)
            self._teacher.progress.metrics(
                {f"distill/round/{k}": float(n) for k, n in this.figures.items()}, this.number
            )
            made[f"distill:{this.number}"] = out / f"{this.number}.jsonl"
            _write(made[f"distill:{this.number}"], this, talks)
            self.stopped = self._why_stop(this)
        return made

    def _seeds(self, this: Round, sources: Mapping[str, Path], tolerated: int) -> list[Instruction]:
        """The different seeds, as many as each topic has room for."""
        found: list[Instruction] = []
        for seed in seeds(sources, tolerated):
            this.asked += 1
            if isinstance(seed, Unusable):
                self._lose(this, "bad", seed.row, seed.why)
            else:
                found.append(seed)
        fresh = self._new(this, found)
        if not fresh:
            raise DataError("prepare.distill.seeds: no prompt there; name files with `prompt` or `instruction` texts")
        self._topics = sorted({seed.topic for seed in fresh})
        self._width = self._width or len(fresh)
        room, kept = self._room(fresh), []
        for seed in fresh:
            if room[seed.topic] > 0:
                room[seed.topic] -= 1
                kept.append(seed)
            else:
                self._lose(this, "over_share", seed.row, f"topic: {seed.topic or '(none)'}", seed.text)
        return kept

    def _refined(self, this: Round, talks: Sequence[Talk]) -> list[Instruction]:
        """New instructions from the dialogues of the round before, as many as each topic has room for.

        While a topic lacks some, its prompts with the fewest new ones are put to the teacher again, in another way.
        """
        room = self._room([talk.start for talk in talks])
        of_topic: dict[str, list[Talk]] = {topic: [] for topic in self._topics}
        for talk in talks:
            of_topic[talk.start.topic].append(talk)
        children: Counter[str | None] = Counter()
        fresh: list[Instruction] = []
        for again in range(self._section.refinements):
            parents: list[Talk] = []
            for topic, own in of_topic.items():
                parents += sorted(own, key=lambda talk: children[prompt_id(talk.start.text)])[: room[topic]]
            for instruction in self._new(this, self._written(this, parents, again)):
                fresh.append(instruction)
                room[instruction.topic] -= 1
                children[instruction.parent] += 1
        return fresh

    def _written(self, this: Round, parents: Sequence[Talk], again: int) -> list[Instruction]:
        """What the teacher makes of each dialogue."""
        ways = [self._way(talk.start, again) for talk in parents]
        replies = self._teacher.instructions(parents, ways)
        made = []
        for talk, way, said in zip(parents, ways, replies, strict=True):
            this.asked += 1
            row = f"distill:{this.number}:{this.asked}"
            if said.lost:
                self._lose(this, said.lost, row, said.text)
            else:
                parent = prompt_id(talk.start.text)
                made.append(Instruction(row, this.asked, said.text, talk.start.topic, way, parent))
        return made

    def _way(self, parent: Instruction, again: int) -> int:
        """By lot, but what was broadened is deepened and the reverse; another one each time."""
        first = number(self._teacher.seed, parent.text, "way")
        return (first + (first + parent.way + 1) % 2 + again) % len(WAYS)

    def _new(self, this: Round, found: Sequence[Instruction]) -> list[Instruction]:
        """Those that resemble no earlier prompt."""
        fresh = []
        for one, earlier in zip(found, self._known.add([one.text for one in found]), strict=True):
            if earlier is None:
                fresh.append(one)
            else:
                self._lose(this, "near_duplicate", one.row, f"like: {earlier}", one.text)
        return fresh

    def _answered(self, this: Round, fresh: Sequence[Instruction]) -> list[Talk]:
        """The dialogues that begin with these instructions, in their order."""
        asked = [Talk(one, ()).said("user", one.text) for one in fresh]
        talks: list[Talk] = []
        for talk, said in zip(asked, self._teacher.answers(asked), strict=True):
            if said.lost:
                self._lose(this, "unanswered", talk.start.row, f"{said.lost}: {said.text}", talk.start.text)
            else:
                talks.append(talk.said("assistant", said.text))
                this.topics[talk.start.topic] += 1
        for turn in range(2, self._section.turns + 1):
            talks = self._continued(turn, talks)
        this.short = sum(len(talk.messages) < 2 * self._section.turns for talk in talks)
        return talks

    def _continued(self, turn: int, talks: Sequence[Talk]) -> list[Talk]:
        """The same talks; to those that came so far one turn is added, where message and answer come to something."""
        going = [talk for talk in talks if len(talk.messages) == 2 * (turn - 1)]
        messages = self._teacher.messages(going)
        spoken = [talk.said("user", said.text) for talk, said in zip(going, messages, strict=True) if not said.lost]
        answers = self._teacher.answers(spoken)
        longer = {
            talk.start.row: talk.said("assistant", said.text)
            for talk, said in zip(spoken, answers, strict=True)
            if not said.lost
        }
        return [longer.get(talk.start.row, talk) for talk in talks]

    def _room(self, there: Sequence[Instruction]) -> Counter[str]:
        """Topic to how many prompts a round may have of it: even shares, what is over to the topics with the most."""
        target = self._section.target
        width = self._width if target is None else min(self._width, target - self._done())
        each, over = divmod(width, len(self._topics))
        richest = {topic for topic, _ in Counter(one.topic for one in there).most_common(over)}
        return Counter({topic: each + (topic in richest) for topic in self._topics})

    def _done(self) -> int:
        return total(self.rounds)["dialogues"]

    def _why_stop(self, this: Round) -> str | None:
        """Why there is no further round after this one; None: there is one."""
        target = self._section.target
        if not self._done():
            first = next(loss for loss in self.losses if loss["rule"] == "distill/unanswered")
            raise DataError(f"prepare.distill: the teacher answered none of {this.new} prompts ({first['reason']})")
        if target is not None and self._done() >= target:
            return f"the target of {target} dialogues is reached"
        if this.number > 1 and this.share_new < self._section.min_new:
            return f"{this.share_new:.0%} of round {this.number}'s instructions are new, less than min_new"
        if not this.dialogues:
            return f"nothing came of round {this.number}"
        return f"all {this.number} rounds are done" if this.number == self._section.rounds else None

    def _lose(self, this: Round, rule: str, row: str, reason: str, prompt: str | None = None) -> None:
        this.lost[rule] += 1
        lost = prompt_id(prompt) if prompt is not None else None
        self.losses.append(Loss(row=row, prompt_id=lost, rule=f"distill/{rule}", reason=reason[:SHOWN]))


def _write(path: Path, this: Round, talks: Sequence[Talk]) -> None:
    lines = [""] * this.asked
    for talk in talks:
        start = talk.start
        row = Distilled(
            id=f"distill:{this.number}:{start.number}",
            topic=start.topic,
            round=this.number,
            parent=start.parent,
            messages=list(talk.messages),
        )
        lines[start.number - 1] = json.dumps(row, ensure_ascii=False)
    path.write_text("".join(f"{line}\n" for line in lines))
