"""What a model has answered, kept in the journal: whole tasks, and parts of them while they are measured."""

import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from zephyr.errors import RecipeError
from zephyr.evals.bench import Bench
from zephyr.journal import Entry, Journal, Reply


@dataclass(frozen=True)
class Memory:
    """Of one model, under its name and what it is; batches and machines decide nothing."""

    bench: Bench
    name: str

    def find(self, *what: Any) -> Any | None:
        """What is kept under this, if anything."""
        key = self._key(what)
        account = self.bench.account
        with closing(Journal(account.journal)) as book:
            for told in account.segments.load(book) if account.segments is not None else ():
                self.bench.progress.note(told)
            found = book.find([key])
        return json.loads(found[key].text or "") if key in found else None

    def keep(self, value: Any, *what: Any) -> None:
        entry = {self._key(what): Entry(self.name, self.name, Reply(json.dumps(value), None, 0, 0))}
        if self.bench.account.segments is not None:
            self.bench.account.segments.write(entry, "")
        with closing(Journal(self.bench.account.journal)) as book:
            book.record(entry)

    def _key(self, what: Any) -> str:
        endpoint = self.bench.section.academic.endpoint
        model = self.bench.endpoints[self.name].decisive if endpoint else self.bench.models[self.name].digest
        whole = json.dumps(["academic", harness_version(), model, what], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()


def harness_version() -> str:
    """Raises RecipeError where the harness isn't installed."""
    try:
        return version("lm-eval")
    except PackageNotFoundError:
        what = "the harness (lm-eval) is missing; pip install 'zephyr-mlops[academic]'"
        raise RecipeError(f"evaluate.academic.tasks: {what}") from None
