"""Preference pairs: how they are made of ratings, or which ones are given, and what is wrong with them."""

from typing import Literal

from pydantic import Field

from zephyr.sections.base import Fraction, Positive, Section, Text


class Checks(Section):
    """Known defects of preference data, each with the greatest share that is tolerated; null: only reported."""

    score_of_1: Fraction | None = 0.001
    """Overall scores of 10 that were a 1, as in the first UltraFeedback: the ratings of the aspects average 2 or less,
    or in scores alone 2 is common and 1 never given. Blocks where the pairs go by the overall score."""
    position: Fraction | None = 0.1
    """Rejected completions that stand at one place of those they were drawn from, beyond what a fair lot gives."""
    judge_position: Fraction | None = 0.3
    """Chosen completions that the judge was shown at one place, beyond what a fair lot gives."""
    ties: Fraction | None = 0.5
    """Pairs with equal scores, or prompts whose completions all have the same."""
    truthful_qa: Fraction | None = 0.0
    """Prompts of TruthfulQA, by their source: an evaluation set."""
    empty: Fraction | None = 0.05
    """Completions, or given pairs with a side, without any text."""
    identical_texts: Fraction | None = 0.5
    """Pairs whose two sides are the same text."""
    longer_chosen: Fraction | None = 0.75
    """Pairs whose chosen side is the longer one; the lower end of the 95% interval counts."""


class Pairing(Section):
    pairs: tuple[Text, ...] = ()
    """Locations of preference pairs, or of UltraFeedback's raw rows, that you have already (docs/feedback.md lists the
    forms); no feedback is asked for then. Pairs with an empty side, equal texts, or the lower score on the chosen side
    are dropped and counted."""
    limit: Positive | None = None
    """Of given rows, at most so many, the first ones."""
    max_bad_rows: int = Field(0, ge=0)
    """So many unreadable given rows are tolerated, and counted, before the step refuses the file."""
    leave_out: tuple[Text, ...] = ()
    """Sources whose prompts are left out, and counted: [truthful_qa]."""
    strategy: Literal["paper", "handbook", "cleaned", "best_worst", "margin", "all_pairs"] = "cleaned"
    """Which completions make a pair, by mean rating over the aspects; drawn by seed and prompt.
    paper: the best against any other. handbook: the same by the judge's overall score. cleaned: the best against one
    that is strictly lower. best_worst: the best against the worst. margin: the best against one that is at least
    `margin` lower. all_pairs: each two with different means."""
    margin: float = Field(1.0, gt=0)
    """Of the strategy of that name, in points of the mean rating."""
    ties: Literal["drop", "keep"] = "drop"
    """Pairs whose two scores are equal: given ones, and those that paper and handbook draw."""
    checks: Checks = Checks()
    test_size: int = Field(100, ge=0)
    """Pairs held out, chosen by the prompt's hash; a fifth of all where there are fewer."""
    labels: Literal["judged", "shuffled"] = "judged"
    """shuffled swaps chosen and rejected by a fair coin: a negative control."""
