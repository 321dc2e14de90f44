"""What is made of one chunk of the sources: rows that the rules kept and rows that were lost, each a file of Arrow."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from zephyr.data.chunks import Chunk
from zephyr.data.duplicates import PERMUTATIONS
from zephyr.schema import DIALOGUE, Message

EXAMPLES = 10
SHOWN = 300
"""Characters of an example."""
ROWS = pa.schema(
    [
        ("line", pa.int64()),
        ("original", pa.string()),  # prompt_id before the rules, where they changed the prompt
        ("key", pa.binary(32)),  # SHA-256 of the rendered prompt
        ("sketch", pa.binary(4 * PERMUTATIONS)),
        *((name, DIALOGUE.field(name).type) for name in ("prompt", "prompt_id", "messages")),
    ]
)
LOST = pa.schema([("line", pa.int64()), *((name, pa.string()) for name in ("prompt_id", "rule", "reason"))])


@dataclass(frozen=True)
class Piece:
    """What a worker is asked to do."""

    number: int
    source: int
    where: str
    """LOCATION[/file inside a folder]: a row's id is this, a colon and the line."""
    chunk: Chunk
    columns: Mapping[str, str]
    share: float
    """Of all sources' bytes, read with this piece."""
    limit: int | None = None
    """At most so many rows."""

    @property
    def name(self) -> str:
        """Of the part's files."""
        return f"{self.number:07}" + ("" if self.limit is None else f"-{self.limit}")


@dataclass
class Tally:
    """What one rule did. Examples: row, before, and after or reason."""

    seen: int = 0
    changed: int = 0
    dropped: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)

    def did(self, row: str, before: Sequence[Message], made: Sequence[Message] | str) -> None:
        """One row was changed or dropped."""
        kind = "reason" if isinstance(made, str) else "after"
        room = sum(kind in example for example in self.examples) < EXAMPLES
        if isinstance(made, str):
            self.dropped += 1
            if room:
                self.examples.append({"row": row, "before": _text(before)[:SHOWN], "reason": made})
        else:
            self.changed += 1
            if room:
                old, new = excerpt(before, made)
                self.examples.append({"row": row, "before": old, "after": new})

    def add(self, other: "Tally") -> None:
        """The tally of the rows behind these."""
        self.seen += other.seen
        self.changed += other.changed
        self.dropped += other.dropped
        for kind in ("after", "reason"):
            room = EXAMPLES - sum(kind in example for example in self.examples)
            self.examples += [example for example in other.examples if kind in example][:room]


@dataclass
class Part:
    """What a piece came to; the rows themselves are on disk."""

    name: str
    source: int
    where: str
    read: int = 0
    kept: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)
    """Line and problem of rows that can't be used, in order."""
    forms: dict[str, int] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(asdict(self)))
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Part":
        raw = json.loads(path.read_text())
        bad = [(line, problem) for line, problem in raw.pop("bad")]
        return cls(bad=bad, tallies={name: Tally(**tally) for name, tally in raw.pop("tallies").items()}, **raw)


def excerpt(before: Sequence[Message], after: Sequence[Message]) -> tuple[str, str]:
    """The first place where two dialogues differ, from both, with a little around it."""
    pair = next(
        ((old["content"], new["content"]) for old, new in zip(before, after, strict=False) if old != new),
        (_text(before), _text(after)),
    )
    start = max(0, _common(*pair) - SHOWN // 3)
    return pair[0][start : start + SHOWN], pair[1][start : start + SHOWN]


def _common(one: str, other: str) -> int:
    """With how many characters both begin."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[low:middle] == other[low:middle] else (low, middle - 1)
    return low


def _text(messages: Sequence[Message]) -> str:
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def read(folder: Path, part: Part, columns: Collection[str], kind: str = "rows") -> pa.Table:
    """Some columns of a part, of its rows or of what was lost."""
    schema = ROWS if kind == "rows" else LOST
    options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
    with (
        pa.memory_map(str(folder / f"{part.name}.{kind}")) as source,
        pa.ipc.open_file(source, options=options) as file,
    ):
        return file.read_all().select(columns)


def remove(folder: Path, part: Part) -> None:
    for kind in ("json", "rows", "lost"):  # without the first one, a rerun makes the part anew
        (folder / f"{part.name}.{kind}").unlink(missing_ok=True)


def write(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink:
        options = pa.ipc.IpcWriteOptions()
        with pa.ipc.new_file(sink, table.schema, options=options) as file:
            file.write_table(table)
