"""What `zephyr eval …` does; parsing and printing only."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def figures(options: argparse.Namespace) -> int:
    """Every figure of a run's evaluation by the name that gate conditions use."""
    from zephyr.errors import RunError
    from zephyr.terminal import Terminal

    run_id, summary = _evaluation(options.run)
    found: Mapping[str, Mapping[str, Any]] = summary.get("figures", {})
    if options.model and options.model not in found:
        raise RunError(f"--model {options.model}: has no figures; those that have: {', '.join(found)}")
    rows = [
        [model, name, f"{one['mean']:.2f}", _ends(one), f"{one['n']:,}"]
        for model, own in found.items()
        if options.model in (None, model)
        for name, one in own.items()
    ]
    terminal = Terminal()
    terminal.line(f"run {run_id}")
    terminal.table(["model", "figure", "value", "95% interval", "n"], rows)
    return 0


def _ends(figure: "Mapping[str, Any]") -> str:
    return "" if figure["low"] is None else f"{figure['low']:.2f} to {figure['high']:.2f}"


def _evaluation(run: str | None) -> "tuple[str, Mapping[str, Any]]":
    """A run's id and what its evaluation found. Raises RunError where there is none."""
    from zephyr import workspace
    from zephyr.errors import RunError
    from zephyr.evals.report.facts import summary_of
    from zephyr.evals.report.states import Missing

    run_id = workspace.find_run(run)
    summary = summary_of(workspace.events(run_id))
    if isinstance(summary, Missing):
        raise RunError(f"{run_id}: no evaluation: {summary.why}")
    return run_id, summary


def power(options: argparse.Namespace) -> int:
    """How many questions a wished-for difference needs, by the spread that a run measured or that is given."""
    from zephyr.errors import RunError
    from zephyr.evals.stats.power import Measured, detectable, measured, questions, score_name
    from zephyr.terminal import Terminal

    wished, many = options.difference, options.comparisons
    for name, value in (
        ("DIFFERENCE", wished),
        ("--comparisons", many),
        ("--spread", 1.0 if options.spread is None else options.spread),
    ):
        if not 0 < value < float("inf"):
            raise RunError(f"{name} {value:g}: must be more than 0")
    if options.spread and (options.figure or options.run):
        raise RunError("--spread says what a run would; leave out --figure and --run, or --spread")
    terminal = Terminal()
    if options.spread:
        found = {"as given": Measured(options.spread, 0)}
    else:
        try:
            run_id, summary = _evaluation(options.run)
        except RunError as error:
            raise RunError(f"{error}; or give the spread between questions with --spread") from None
        figure = options.figure or score_name(summary)
        found = measured(summary, figure)
        terminal.line(f"run {run_id}: {figure}, a difference of {wished:g}")
    chances = (50, 80, 90, 95)
    rows = []
    for model, one in found.items():
        needed = [f"{questions(wished, one.spread, chance / 100, many):,}" for chance in chances]
        seen = detectable(one.questions, one.spread, comparisons=many)
        asked = [f"{one.questions:,}", "" if seen is None else f"{seen:.2f}"] if one.questions else ["", ""]
        rows.append([model, f"{one.spread:.2f}", *asked, *needed])
    header = ["model", "spread", "questions asked", "they show (80 %)"]
    terminal.table([*header, *(f"needed for {chance} %" for chance in chances)], rows)
    return 0


def mt_bench(options: argparse.Namespace) -> int:
    """Aggregate public judgments, in FastChat's form."""
    from zephyr import workspace
    from zephyr.data.locations import local
    from zephyr.errors import printable
    from zephyr.evals.figures import kind
    from zephyr.evals.mt_bench import published
    from zephyr.progress import plural
    from zephyr.terminal import Terminal

    cache = workspace.home() / "cache"
    known = published.questions(local(options.questions, cache)) if options.questions else None
    found, replaced = published.standings([local(file, cache) for file in options.files], known)
    terminal = Terminal()
    counted = ("scored", "unread", "not_judged", "missing")
    header = ["model", "judge", "score", "95% interval", "turn 1", "turn 2", *(n.replace("_", " ") for n in counted)]
    rows = [
        [
            *(one.model, one.judge, _mean(one.figures, "score")),
            _ends(one.figures["score"]) if "score" in one.figures else "",
            *(_mean(one.figures, f"score.turn_{turn}") for turn in (1, 2)),
            *(f"{one.counts[name]:,}" for name in counted),
        ]
        for one in found
    ]
    terminal.table(header, rows)
    if known:
        categories = list(dict.fromkeys(question.category for question in known.values()))
        names = [f"score.{kind(category)}" for category in categories]
        shown = [[one.model, one.judge, *(_mean(one.figures, name) for name in names)] for one in found]
        terminal.table(["model", "judge", *categories], shown)
    if replaced:
        terminal.line(f"left out: {plural(replaced, 'judgment')} that a newer one of the same turn takes the place of")
    for one in found:
        if one.with_failed is not None:
            told = f"answers that failed were judged as text, and are left out; with them {one.with_failed:.4f}"
            terminal.console.print(f"{printable(one.model)}: {told}", markup=False)
    return 0


def alpaca(options: argparse.Namespace) -> int:
    """Win rates by annotations in AlpacaEval's form, as AlpacaEval counts them."""
    from zephyr import workspace
    from zephyr.data.locations import local
    from zephyr.evals.alpaca import published
    from zephyr.progress import plural
    from zephyr.terminal import Terminal

    terminal, cache = Terminal(), workspace.home() / "cache"
    known = published.instructions(local(options.instructions, cache)) if options.instructions else None
    difficulty = local(options.difficulty, cache) if options.difficulty else None
    found = published.standings([local(place, cache) for place in options.files], known, difficulty)
    header = ["model", "against", "judge", "win rate", "se", "95% interval", "n", "won", "lost", "draw", "unread"]
    counted = ("n", "wins", "losses", "draws", "unparsed")
    rows = [
        [
            *(one.win["model"], one.win["baseline"], one.judge),
            *("" if one.win[name] is None else f"{one.win[name]:.4f}" for name in ("win_rate", "se")),
            _between(one.win, "low", "high"),
            *(f"{one.win[name]:,}" for name in counted),
            f"{int(one.win['length']):,}",
            "" if one.win["lc_win_rate"] is None else f"{one.win['lc_win_rate']:.2f}",
            _between(one.win, "lc_low", "lc_high"),
            {"none": "left out"}.get(one.win["lc_difficulty"], one.win["lc_difficulty"]),
            "yes" if one.win["lc_regularised"] else "no",
        ]
        for one in found
    ]
    terminal.table([*header, "length", "at equal length", "95% interval", "difficulty", "regularised"], rows)
    if replaced := sum(one.replaced for one in found):
        told = f"left out: {plural(replaced, 'verdict')} that a newer one of the same instruction takes the place of"
        terminal.line(told)
    return 0


def _between(win: "Mapping[str, Any]", low: str, high: str) -> str:
    return "" if win[low] is None else f"{win[low]:.2f} to {win[high]:.2f}"


def _mean(figures: "Mapping[str, Any]", name: str) -> str:
    return f"{figures[name]['mean']:.4f}" if name in figures else ""
