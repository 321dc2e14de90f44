"""Who made whom, as evaluate.audit.families tells it."""

from difflib import get_close_matches

from zephyr.errors import RecipeError
from zephyr.evals.alpaca.judging import references
from zephyr.evals.bench import Bench

VARIANTS = ("dSFT-1", "dSFT-2", "dDPO", "dDPO+dSFT", "dDPO+dSFT longer", "dDPO+dSFT on alpha data")
"""A recipe may name them all, whichever its pipeline trains."""


def check(bench: Bench) -> None:
    """Raises RecipeError at a name that nobody has: no endpoint, variant, peer, or author of the references."""
    authors = (author for author, _ in references(bench).values())
    known = dict.fromkeys((*bench.endpoints, *VARIANTS, *bench.models, *bench.section.answers, *authors))
    for name in bench.section.audit.families:
        if name not in known:
            near = get_close_matches(name, known, cutoff=0.7) or known
            raise RecipeError(f"evaluate.audit.families: nobody is called {name}; there are {', '.join(near)}")
