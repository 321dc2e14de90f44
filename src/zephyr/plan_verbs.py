"""What `zephyr plan` prints: the trainings' memory, time and cost, then the calls'."""

import argparse
from typing import TYPE_CHECKING

from zephyr.errors import EXIT_USER_ERROR

if TYPE_CHECKING:
    from zephyr.recipe import Recipe
    from zephyr.terminal import Terminal


def plan(options: argparse.Namespace) -> int:
    from zephyr.recipe import load
    from zephyr.run import world_for
    from zephyr.terminal import Terminal

    recipe, terminal = load(options.recipe, options.overrides), Terminal()
    with world_for(recipe):
        fits = _trainings(recipe, terminal)
        counted = _calls(recipe, terminal)
    return 0 if fits or (fits is None and counted) else EXIT_USER_ERROR


def _trainings(recipe: "Recipe", terminal: "Terminal") -> bool | None:
    """The trainings' part of the plan; returns False where one can't fit, None where nothing can be said."""
    from zephyr.doctor import attempt, trainings
    from zephyr.errors import ZephyrError
    from zephyr.plan import lines, pool
    from zephyr.plan.training import trainings as planned

    try:
        place = pool.of(recipe)
        if place is not None:
            made = planned(recipe, place)
            for header, rows in (lines.memory(made), lines.time(made), lines.cheapest(made)):
                if rows:
                    terminal.table(header, rows)
                    terminal.line("")
            for line in lines.notes(made, place):
                print(line)
    except ZephyrError as error:
        print(f"trainings: not planned: {error}\n", flush=True)
        return None
    found = attempt("trainings", lambda: trainings(recipe, place))
    print(f"{'error' if found.ok is False else 'trainings'}: {found.detail}\n", flush=True)
    return found.ok


def _calls(recipe: "Recipe", terminal: "Terminal") -> bool:
    """The calls' part; returns False where what they are made of can't be read from here."""
    from zephyr.data.rules import chosen
    from zephyr.errors import ZephyrError
    from zephyr.plan import ASSUMED, plan, times, total

    chosen(recipe.prepare.clean)  # a recipe that can't run is refused, whatever can be read
    try:
        found = plan(recipe)
    except ZephyrError as error:
        print(f"calls: not planned: {error}")
        return False
    if not found:
        print(f"{recipe.name} calls no endpoint")
        return True
    rows = [
        [
            e.step,
            e.endpoint,
            *(f"{n:,}" for n in (e.calls, e.tokens_in, e.tokens_out)),
            f"{e.dollars:,.2f}",
            f"{e.most:,.2f}",
        ]
        for e in (*found, total(found))
    ]
    terminal.table(["step", "endpoint", "calls", "tokens in", "tokens out", "dollars", "at most"], rows)
    for line in times(recipe, found):
        print(line)
    print("budget: " + ("none is set" if recipe.budget is None else f"${recipe.budget:,.2f}"))
    print(ASSUMED)
    return True
