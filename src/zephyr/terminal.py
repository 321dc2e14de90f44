"""What the person sees: each step with progress, time and its main figure; at the end the variants."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from zephyr.errors import printable
from zephyr.progress import Progress
from zephyr.recipe import Recipe
from zephyr.records import named

SPEED = ("pairs_per_second", "dialogues_per_second")
EVERY = 30.0
"""Seconds between two words on how far a step is, where they are lines of a log."""


class Terminal:
    """Renders events of a run. On a terminal the running step's line is updated in place."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._live = self.console.is_terminal
        self._width = 0

    def title(self, recipe: Recipe, run_id: str) -> None:
        self.console.print(f"[bold]zephyr run[/bold]  recipe {recipe.name}  seed {recipe.seed}  run {run_id}")

    def line(self, text: str) -> None:
        self._clear()
        self.console.print(text)

    def show(self, event: Mapping[str, Any]) -> None:
        """One event of progress.jsonl."""
        step, kind = label(event), event["event"]
        if kind == "start" and self._live:
            self._replace(f"  {step:<14} …")
        elif kind == "progress" and self._live:
            self._replace(working(event, self.console.width - 1))
        elif kind == "note":
            style = "yellow" if event["text"].startswith("WARNING") else "dim"
            self.line(f"  [{style}]{step:<14} {event['text']}[/{style}]")
        elif kind == "skipped":
            self.line(f"  [dim]– {step:<12} skipped: {event['reason']}[/dim]")
        elif kind == "failed":
            self.line(f"  [red]✗[/red] {step}")
        elif kind == "done":
            self.line(f"  [green]✓[/green] {step:<12} {event['seconds']:6.1f} s  {_main(event)}")

    def status(self, events: Sequence[Mapping[str, Any]]) -> None:
        """How far a run is: its finished steps, and the last word of the step at work."""
        self._live = False
        last = ""
        for event in events:
            self.show(event)
            step = label(event)
            if event["event"] == "start":
                last = f"  {step:<14} at work"
            elif event["event"] == "progress":
                last = working(event)
            elif event["event"] in ("done", "skipped", "failed"):
                last = ""
            if event["event"] == "failed":
                self.console.print(f"    {event['message']}", markup=False)
        if last:
            self.line(last)

    def failed(self, events: Sequence[Mapping[str, Any]], folder: Path) -> None:
        """The errors that ended a run: one, or one of each shard."""
        self._clear()
        for event in events:
            log = folder / "logs" / f"{named(event['step'], event.get('shard', ''))}.log"
            where = f"{label(event)}: " if event.get("shard") else ""
            print(f"error: {where}{event['message']}{'' if event['user'] else f' (log: {log})'}", file=sys.stderr)
        self._report(folder)

    def summary(self, run_id: str, folder: Path, events: Sequence[Mapping[str, Any]]) -> None:
        """The variants with their intervals, the time, and where outputs lie."""
        from zephyr.evals.report.facts import summary_of
        from zephyr.evals.report.states import Missing
        from zephyr.evals.table import notes, table

        self._clear()
        done = [event for event in events if event["event"] == "done"]
        total = sum(event["seconds"] for event in done)
        work = sum(event.get("work_seconds", 0.0) for event in done)
        summary = summary_of(events)
        if not isinstance(summary, Missing):
            header, *rows = table(summary)
            self.console.print()
            self.table(header, rows)
            for line in notes(summary):
                self.console.print(line, markup=False)
        self.console.print()
        self.console.print(f"steps took {total:.0f} s, of which {total - work:.0f} s outside their own work")
        self._report(folder)
        self.console.print(f"logs     zephyr logs {run_id}")
        for event in done:
            if event.get("verdict"):
                self.console.print(f"verdict  {event['verdict']}", markup=False)
                for reason in event["reasons"]:
                    self.console.print(f"         {reason}", markup=False)
            if event.get("version"):
                name = f"{event['name']} version {event['version']}"
                self.console.print(f"model    {name}  (zephyr lineage {event['name']}@candidate)")

    def _report(self, folder: Path) -> None:
        from zephyr.release import REPORT

        if (folder / REPORT).is_file():
            self.console.print(f"report   {os.path.relpath(folder / REPORT)}")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns as wide as they need to be: a URI that is cut off is of no use."""
        rows = [list(map(printable, row)) for row in rows]
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        for number, row in enumerate((header, *rows)):
            line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self.console.print(line, style="bold" if number == 0 else None, markup=False)

    def _replace(self, text: str) -> None:
        text = text[: self.console.width - 1]
        self.console.file.write("\r" + text.ljust(self._width))
        self.console.file.flush()
        self._width = len(text)

    def _clear(self) -> None:
        if self._width:
            self.console.file.write("\r" + " " * self._width + "\r")
            self._width = 0


class Shown(Progress):
    """Progress of a long command that is no run, straight to the terminal."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self._terminal = Terminal()

    def event(self, kind: str, **fields: Any) -> None:
        self._terminal.show({"event": kind, "step": self.step, **fields})


class Spoken(Progress):
    """Progress of a step that no `zephyr run` watches, in a pod or by hand: what happens also stands in its output."""

    def __init__(self, step: str, path: Path, shard: str) -> None:
        super().__init__(step, path, shard=shard)
        self._terminal = Terminal()
        self._said = 0.0

    def event(self, kind: str, **fields: Any) -> None:
        super().event(kind, **fields)
        told = {"event": kind, "step": self.step, "shard": self.shard, **fields}
        if kind != "progress":
            self._terminal.show(told)
        elif fields["done"] >= fields["total"] or time.monotonic() - self._said >= EVERY:
            self._terminal.line(working(told))
            self._said = time.monotonic()


def label(event: Mapping[str, Any]) -> str:
    """A step's name, with its part if it runs in parts."""
    return f"{event['step']} {event['shard']}" if event.get("shard") else str(event["step"])


def working(event: Mapping[str, Any], width: int = 120) -> str:
    """How far a step is: as many of its figures, the time left first, as fit into `width` characters."""
    text = f"  {label(event):<14} {event['done']:,}/{event['total']:,} {event['unit']}"
    figures = dict(event["figures"])
    left = figures.pop("seconds_left", None)
    said = [] if left is None else [f"{duration(left)} left"]
    for part in said + [figure(name, value) for name, value in figures.items()]:
        if len(text) + 2 + len(part) > width:
            break
        text += f"  {part}"
    return text


def figure(name: str, value: float) -> str:
    """A figure in a few characters: 5.3k tokens/s, loss 0.6123."""
    if name.endswith("_per_second"):
        shown = f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}" if value >= 100 else f"{value:.1f}"
        return f"{shown} {name.removesuffix('_per_second')}/s"
    if name == "utilisation":
        return f"{value:.0%} of peak"
    return f"{name} {value:.3f}" if 0.001 <= abs(value) < 1000 else f"{name} {value:.3g}"


def duration(seconds: float) -> str:
    """A time in one or two units, as exact as an estimate is."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _main(event: Mapping[str, Any]) -> str:
    if event.get("reason"):
        return f"[dim]empty: {event['reason']}[/dim]"
    parts = []
    value = event.get("figures", {}).get(event.get("main", ""))
    if value is not None:
        parts.append(f"{event['main'].replace('eval_', 'held-out ')} {value:.4g}")
    if not event.get("found"):
        speed = [name for name in event.get("figures", {}) if name in SPEED]
        parts += [figure(name, event["figures"][name]) for name in speed]
    if event.get("text"):
        parts.append(str(event["text"]))
    if event.get("found"):
        parts.append("[dim]found by key[/dim]")
    return "  ".join(parts)
