"""`zephyr plan`: what a run needs before anything is spent on it.

calls.py tells calls, tokens and dollars of the steps that ask endpoints; training.py memory, hours and dollars of the
trainings, from shapes.py, memory.py, speed.py and tokens.py; search.py finds what fits.
"""

from zephyr.plan.calls import ASSUMED, Estimate, plan, times, told, total

__all__ = ["ASSUMED", "Estimate", "plan", "times", "told", "total"]
