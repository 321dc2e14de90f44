"""AlpacaEval: single instructions, each answer compared with a baseline's and a reference's."""

from zephyr.evals.alpaca.checking import check, difficulty
from zephyr.evals.alpaca.found import found
from zephyr.evals.alpaca.judging import answer, judge, peers

__all__ = ["answer", "check", "difficulty", "found", "judge", "peers"]
