"""A judge asked from another process or machine: questions and verdicts as texts in the store.

    {store}/choice/{step}/{key[:16]}/prompts.json
                                     SHA.asked.json     answers at a step, beside the starting model's
                                     SHA.told.json      what the judge says of them
                                     ended.json         why nothing is answered any more; empty until then

The training's first process asks; the step that started the training, which has the endpoints' keys and pays, answers.
A question's name is the digest of its content: asked again after a stop, it is found answered. A store that is away is
asked again for ten minutes; a judge that can't answer ends the training, which is the one that waits.
"""

import hashlib
import json
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zephyr import errors
from zephyr.artifacts import Store
from zephyr.errors import EndpointError, RunError, ZephyrError
from zephyr.train.job import Job
from zephyr.train.patience import SILENCE, patiently

if TYPE_CHECKING:
    from zephyr.train.watching.choice import Judge

EVERY = 1.0
"""Seconds between two looks."""
LONGEST = 6 * 3600.0
"""Seconds that one answer may take; half of what the other processes wait for the first one."""
PROMPTS, ASKED, TOLD, ENDED = "prompts.json", ".asked.json", ".told.json", "ended.json"


class Asked:
    """The judge as the training's first process sees it."""

    def __init__(
        self, store: Store, job: Job, every: float = EVERY, silence: float = SILENCE, longest: float = LONGEST
    ) -> None:
        self._store, self._place, self._every = store, _place(job.step, job.key), every
        self._silence, self._longest = silence, longest
        self.prompts: list[str] = json.loads(self._wait(PROMPTS))

    def __call__(self, step: int, answers: Sequence[str], start: Sequence[str]) -> Mapping[str, float]:
        text = json.dumps({"step": step, "answers": list(answers), "start": list(start)})
        name = hashlib.sha256(text.encode()).hexdigest()
        patiently(lambda: self._store.shelve(self._place, name + ASKED, text), self._every, self._silence)
        told: dict[str, float] = json.loads(self._wait(name + TOLD))
        return told

    def _wait(self, name: str) -> str:
        until = time.monotonic() + self._longest
        while (text := self._read(name)) is None:
            if ended := self._read(ENDED):
                why = json.loads(ended)
                error: ZephyrError = getattr(errors, why["error"])(why["message"])
                raise error
            if time.monotonic() >= until:
                where = f"{self._store.location}/{self._place}/{name}"
                raise RunError(f"{where}: the step's judge hasn't answered for {self._longest / 3600:.3g} hours")
            time.sleep(self._every)
        return text

    def _read(self, name: str) -> str | None:
        return patiently(lambda: self._store.shelved(self._place, name), self._every, self._silence)


@contextmanager
def answering(store: Store, job: Job, judge: "Judge", every: float = EVERY, silence: float = SILENCE) -> Iterator[None]:
    """Answer what a training asks, in a thread, until the block ends."""
    place = _place(job.step, job.key)
    told: dict[str, str | None] = {}
    ended, trained = threading.Event(), list[bool]()

    def look() -> None:
        patiently(lambda: _answer(store, place, judge, told), every, silence)

    def answer() -> None:
        try:
            while not ended.wait(every):
                look()
            if trained:
                look()  # what an earlier attempt asked is paid for, and counts
        except ZephyrError as error:
            end(error)
        except Exception as error:  # noqa: BLE001  # it ends the training, which waits, and not this thread alone
            traceback.print_exc()
            end(EndpointError(f"the judge could not be asked: {type(error).__name__}: {error}"))

    def end(error: ZephyrError) -> None:
        text = json.dumps({"error": type(error).__name__, "message": str(error)})
        patiently(lambda: store.shelve(place, ENDED, text), every, silence)

    for name, text in ((ENDED, ""), (PROMPTS, json.dumps(list(judge.prompts)))):
        store.shelve(place, name, text)
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
        trained.append(True)
    finally:
        ended.set()
    thread.join()


def forget(store: Store, step: str, key: str) -> None:
    """Delete what was asked in a training whose step is done."""
    store.clear(_place(step, key))


def _answer(store: Store, place: str, judge: "Judge", told: dict[str, str | None]) -> None:
    """Answer what isn't answered yet; `told` has of each question the answer, None once the store has it."""
    for name in store.shelf(place):
        if not name.endswith(ASKED):
            continue
        if name not in told:
            asked: dict[str, Any] = json.loads(store.shelved(place, name) or "")
            told[name] = json.dumps(dict(judge(asked["step"], asked["answers"], asked["start"])))
        text = told[name]
        if text is not None:
            store.shelve(place, name.removesuffix(ASKED) + TOLD, text)
            told[name] = None


def _place(step: str, key: str) -> str:
    return f"choice/{step}/{key[:16]}"
