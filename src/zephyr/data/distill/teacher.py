"""The teacher: it answers, writes new instructions, and speaks as the user."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from zephyr.account import Account
from zephyr.client import Call, complete, number
from zephyr.data.distill import prompts
from zephyr.data.distill.seeds import Instruction
from zephyr.journal import Reply
from zephyr.progress import Progress
from zephyr.schema import Message
from zephyr.sections import Distillation, Endpoint


class Talk(NamedTuple):
    """A dialogue in the making."""

    start: Instruction
    messages: tuple[Message, ...]

    def said(self, role: str, text: str) -> "Talk":
        """The same with one more message."""
        return Talk(self.start, (*self.messages, Message(role=role, content=text)))


class Said(NamedTuple):
    """What the teacher said; `lost` names why it is of no use, and the text is then what there is instead."""

    text: str
    lost: str | None = None


@dataclass(frozen=True)
class Teacher:
    section: Distillation
    endpoints: Mapping[str, Endpoint]
    seed: int
    account: Account
    progress: Progress

    def answers(self, talks: Sequence[Talk]) -> list[Said]:
        """The assistant's next message of each talk; lost: failed, empty, cut."""
        return self._ask([talk.messages for talk in talks], "answers")

    def messages(self, talks: Sequence[Talk]) -> list[Said]:
        """The user's next message of each talk; lost: failed, empty, cut, echo."""
        asked = [prompts.speak(talk.messages, self._drawn(prompts.MOVES, talk)) for talk in talks]
        return self._written(asked, talks, "messages")

    def instructions(self, talks: Sequence[Talk], ways: Sequence[int]) -> list[Said]:
        """A new instruction from each talk's first prompt and answer, by index of prompts.WAYS; lost: as messages."""
        talks = [Talk(talk.start, talk.messages[:2]) for talk in talks]
        asked = [
            prompts.refine(talk.start.text, talk.messages[1]["content"], talk.start.topic, prompts.WAYS[way])
            for talk, way in zip(talks, ways, strict=True)
        ]
        return self._written(asked, talks, "instructions")

    def _drawn(self, choices: Sequence[str], talk: Talk) -> str:
        return choices[number(self.seed, talk.start.text, str(len(talk.messages))) % len(choices)]

    def _written(self, asked: Sequence[str], talks: Sequence[Talk], unit: str) -> list[Said]:
        replies = self._ask([[Message(role="user", content=text)] for text in asked], unit)
        return [_new(reply, talk.messages) for reply, talk in zip(replies, talks, strict=True)]

    def _ask(self, asked: Sequence[Sequence[Message]], unit: str) -> list[Said]:
        """A call's seed follows from what is asked, so that a rerun makes the same call and finds it journalled."""
        calls = [
            Call(
                endpoint=self.section.teacher,
                messages=messages,
                temperature=self.section.temperature,
                max_tokens=self.section.max_tokens,
                seed=number(self.seed, "distill", json.dumps(messages)),
            )
            for messages in asked
        ]
        replies = complete(calls, self.endpoints, self.account, self.progress, unit) if calls else []
        return [_said(reply) for reply in replies]


def _said(reply: Reply) -> Said:
    if reply.error is not None or reply.text is None:
        return Said(reply.error or "no text", "failed")
    text = reply.text.strip()
    return Said(text, "cut" if reply.finish_reason in ("length", "content_filter") else None if text else "empty")


def _new(reply: Said, shown: Sequence[Message]) -> Said:
    """The text that the teacher wrote, unless it says again what it was shown."""
    if reply.lost:
        return reply
    text = prompts.written(reply.text)
    if not text:
        return Said(reply.text, "empty")
    return Said(text, "echo" if any(prompts.echoes(text, message["content"]) for message in shown) else None)
