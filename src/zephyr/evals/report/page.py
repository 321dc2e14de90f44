"""From facts to the page."""

import time
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml
from markupsafe import Markup

from zephyr import __version__, workspace
from zephyr.evals.figures import CORRECTED
from zephyr.evals.report import (
    ablation,
    charts,
    claims,
    contrasts,
    drawings,
    filters,
    flow,
    harm,
    paper,
    peers,
    protocol,
    talks,
    tasks,
    tiles,
    training,
    trust,
)
from zephyr.evals.report.claims import ALIGNED, DSFT
from zephyr.evals.report.facts import Facts
from zephyr.evals.report.states import Missing
from zephyr.evals.table import figures, interval, shown, won, won_at_equal_length

FOLDER = "zephyr.evals.report"
SIGNS = {"held": "✓", "contradicted": "✗", "open": "?", "untested": "–"}
VERDICTS = {"passed": "✓", "failed": "✗", "pending": "…", "none": "–", "error": "✗", "unfinished": "…"}


def render(facts: Facts) -> str:
    """The whole page, complete in itself. Whatever a model or a file said is text in it, never markup."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("zephyr.evals", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["short"] = charts.cut
    environment.tests["missing"] = lambda value: isinstance(value, Missing | flow.Skipped)
    recipe = {} if isinstance(facts.recipe, Missing) else facts.recipe
    baseline = DSFT if isinstance(facts.summary, Missing) else facts.summary["baseline"]
    drawn = talks.drawn(facts.answers, facts.scores, facts.comparisons, baseline, recipe.get("seed", 0))
    page = environment.get_template("template.html").render(
        facts=facts,
        style=Markup((files(FOLDER) / "style.css").read_text()),
        version=__version__,
        title=f"{charts.cut(str(recipe.get('name', 'recipe not resolved')), 80)}, run {facts.run_id}",
        recipe=recipe,
        sign=VERDICTS.get(facts.verdict.status, "–"),
        began=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(facts.began)) if facts.began else None,
        took=tiles.seconds(facts.seconds),
        tiles=tiles.of(facts),
        peers=peers.of(facts.summary, recipe),
        contrasts=contrasts.rows(facts.summary),
        contrasts_mean=contrasts.MEANING,
        trust=trust.of(facts.summary),
        states=trust.STATES,
        safety=harm.of(facts, recipe),
        safety_shown=harm.SHOWN,
        waived=harm.waived(recipe),
        tasks=tasks.of(facts.summary),
        curves=[*drawings.curves(facts), *training.chosen(facts)],
        trained=training.table(facts),
        trained_means=training.MEANING,
        warnings=training.warnings(facts),
        radar=drawings.radar(facts.summary),
        changes=drawings.changes(facts.summary),
        categories=_categories(facts.summary),
        asked=protocol.of_questions(facts.summary),
        compared=protocol.of_instructions(facts.summary),
        leads=protocol.of_leads(facts.summary)[: drawings.ROWS],
        wins=drawings.win_rates(facts.summary),
        win_rows=() if isinstance(facts.summary, Missing) else _win_rows(facts.summary),
        lengths=drawings.lengths(facts),
        stages=flow.stages(facts.steps),
        shares=_shares,
        talks=drawn,
        filters=None if isinstance(drawn, Missing) else filters.of(drawn, baseline),
        settings=facts.recipe if isinstance(facts.recipe, Missing) else _settings(facts.recipe),
        audited=tiles.audited(facts.bills),
        total=facts.bills if isinstance(facts.bills, Missing) else sum(bill.dollars for bill in facts.bills),
        claims=claims.judge(facts.summary, facts.histories, facts.scores, facts.comparisons, facts.refusals),
        signs=SIGNS,
        ablation=ablation.table(facts.summary),
        ablation_note=ablation.note(facts.summary),
        order=ablation.order(facts.summary),
        released=_released(facts),
        seconds=tiles.seconds,
        size=workspace.size,
    )
    return workspace.shown(page)


def _categories(summary: Mapping[str, Any] | Missing) -> list[list[str]] | Missing:
    """Header first: scores per variant, and the paired change of each against the baseline."""
    if isinstance(summary, Missing):
        return summary
    if not drawings.categories(summary):
        return Missing("no two-turn questions were asked")
    names = [name for name in talks.ordered(list(summary["models"])) if summary["models"][name]["categories"]]
    others = [name for name in names if name != summary["baseline"]]
    others = [ALIGNED] if len(others) > 1 and ALIGNED in others else others  # what the page can hold side by side
    rows = [["category", *names, *(f"{name}: change" for name in others)]]
    for category in drawings.categories(summary, 4 * drawings.ROWS):
        cells = [summary["models"][name]["categories"].get(category) for name in names]
        cells += [summary["models"][name]["differences"].get(category) for name in others]
        signs = [""] * len(names) + ["+"] * len(others)
        told = [
            interval(c["mean"], c["low"], c["high"], 2, sign) if c else "" for c, sign in zip(cells, signs, strict=True)
        ]
        rows.append([charts.cut(category, 60), *told])
    return [rows[0], *_turns(summary, names, len(others)), *rows[1:]]


def _turns(summary: Mapping[str, Any], names: Sequence[str], others: int) -> list[list[str]]:
    """The scores of each turn over all categories, where they are known."""
    own = figures(summary)
    rows = []
    for turn in (1, 2):
        found = [own.get(name, {}) for name in names]
        cells = [shown(f.get(f"score.turn_{turn}") or f.get(f"{CORRECTED}.turn_{turn}"), 2) for f in found]
        if any(cells):
            rows.append([f"turn {turn}", *cells, *[""] * others])
    return rows


def _win_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    rows = [["pair", "win %", "SE", "at equal length", "compared", "longer"]]
    for win in summary["win_rates"][: drawings.ROWS]:
        controlled = won_at_equal_length(win) or "not measured"
        compared = f"{win['n']:,}, {win['draws']:,} draws" + (
            f", {win['unparsed']:,} unreadable" * bool(win["unparsed"])
        )
        gap = f"{win['length_gap']:+.0f}"
        error = f"{win['se']:.2f}" if win.get("se") is not None else ""
        pair = f"{win['model']} vs {charts.cut(win['baseline'], 60)}"
        rows.append([pair, won(win), error, controlled, compared, gap])
    return rows


def _shares(stage: flow.Stage) -> Markup:
    words = ", ".join(f"{share.count:,} {share.name}" for share in stage.kept)
    lost = ", ".join(f"{share.count:,} lost: {share.name}" for share in stage.lost if share.count)
    label = f"{stage.step}: of {stage.total.count:,} {stage.total.name}, {words}" + (f"; {lost}" if lost else "")
    return charts.shares([share.count for share in stage.kept], [share.count for share in stage.lost], label)


def _settings(recipe: Mapping[str, Any]) -> str:
    return charts.cut(yaml.safe_dump(dict(recipe), sort_keys=False, width=100, allow_unicode=True), 100_000)


def _released(facts: Facts) -> list[Sequence[str]]:
    figures = facts.steps["dpo"].figures if "dpo" in facts.steps else {}
    rows: list[Sequence[str]] = [("DPO", "paper, released model", "this run")]
    for name, words, value in paper.RELEASED:
        rows.append((words, f"{value:g}", f"{figures[name]:.4g}" if name in figures else "not measured"))
    return rows
