"""AlpacaEval: answers to single instructions, compared two at a time."""

from zephyr.evals.alpaca.judging import answer, check, judge

__all__ = ["answer", "check", "judge"]
