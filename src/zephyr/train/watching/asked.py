"""A judge asked from another process or machine: questions and verdicts as texts in the store.

    {store}/choice/{step}/{key[:16]}/prompts.json
                                     SHA.asked.json     answers at a step, beside the starting model's
                                     SHA.told.json      what the judge says of them, or why it can't

The training's first process asks; the step that started the training, which has the endpoints' keys and pays, answers.
A question's name is the digest of its content: asked again after a stop, it is found answered.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zephyr import errors
from zephyr.artifacts import Store, open_store
from zephyr.errors import ZephyrError
from zephyr.train.job import Job

if TYPE_CHECKING:
    from zephyr.train.watching.choice import Judge

EVERY = 1.0
"""Seconds between two looks."""
PROMPTS, ASKED, TOLD = "prompts.json", ".asked.json", ".told.json"


class Asked:
    """The judge as the training's first process sees it."""

    def __init__(self, job: Job, every: float = EVERY) -> None:
        self._store, self._place, self._every = _open(job), _place(job), every
        self.prompts: list[str] = json.loads(self._wait(PROMPTS))

    def __call__(self, step: int, answers: Sequence[str], start: Sequence[str]) -> Mapping[str, float]:
        text = json.dumps({"step": step, "answers": list(answers), "start": list(start)})
        name = hashlib.sha256(text.encode()).hexdigest()
        self._store.shelve(self._place, name + ASKED, text)
        told: dict[str, Any] = json.loads(self._wait(name + TOLD))
        if "error" in told:
            error: ZephyrError = getattr(errors, told["error"])(told["message"])
            raise error
        return told

    def _wait(self, name: str) -> str:
        while (text := self._store.shelved(self._place, name)) is None:
            time.sleep(self._every)
        return text


@contextmanager
def answering(job: Job, judge: "Judge", every: float = EVERY) -> Iterator[None]:
    """Answer what a training asks, in a thread, until the block ends."""
    store, place = _open(job), _place(job)
    answered: set[str] = set()
    ended = threading.Event()

    def answer() -> None:
        while not ended.wait(every):
            _answer(store, place, judge, answered)

    store.shelve(place, PROMPTS, json.dumps(list(judge.prompts)))
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
    thread.join()
    _answer(store, place, judge, answered)  # what an earlier attempt asked is paid for, and counts


def _answer(store: Store, place: str, judge: "Judge", answered: set[str]) -> None:
    for name in store.shelf(place):
        if not name.endswith(ASKED) or name in answered:
            continue
        answered.add(name)
        asked = json.loads(store.shelved(place, name) or "")
        try:
            told: dict[str, Any] = dict(judge(asked["step"], asked["answers"], asked["start"]))
        except ZephyrError as error:
            told = {"error": type(error).__name__, "message": str(error)}
        except Exception as error:
            told = {"error": "RunError", "message": f"the judge could not be asked: {type(error).__name__}: {error}"}
            store.shelve(place, name.removesuffix(ASKED) + TOLD, json.dumps(told))
            raise
        store.shelve(place, name.removesuffix(ASKED) + TOLD, json.dumps(told))


def _open(job: Job) -> Store:
    return open_store(job.store, job.cache)


def _place(job: Job) -> str:
    return f"choice/{job.step}/{job.key[:16]}"
