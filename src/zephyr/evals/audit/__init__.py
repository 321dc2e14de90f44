"""The judge's audit: can its word be trusted?

`summary["judge"]` is {} where nothing was judged, else:

    judge, model    its endpoint's name; the model behind it
    second          the second judge's endpoint, or null
    verdict         "yes", "doubtful", "no", or "unknown" (nothing was measured)
    words           the verdict in a sentence
    reasons         [text]: why not, failed checks first; then what was not measured, and why
    sample          {comparisons, of_comparisons, grades, of_grades}: how many were judged again, of how many
    checks          [check], in the order in which they are shown; each of them is always there:
      name          readable, position, stability, agreement, self_preference, verbosity, human, anchor
      title, asks   "Order of the answers"; the question that it answers, in words
      state         "ok", "doubtful", "failed" or "not measured"
      found         what was measured, in words with its interval; "" where nothing was
      rule          what counts as ok, in words
      why           why it was not measured, or is doubted; "" where it is ok
      figures       [{name, says, unit, mean, low, high, n}]: the first one decides; `says` names it in words, `unit`
                    is "%", "points", "percentage points" or "" (Cohen's kappa, correlation); low and high may be null
      limit         {low, high, fair} of the deciding figure: its tolerated range (an end may be null), and what a fair
                    judge would have (may be null); null where the check was not measured
    anchor          null, or {model, key, grades}: key (SHA-256 of its questions and answers) and the grade by
                    "QUESTION/TURN", so that two evaluations can be compared grade by grade

The same figures stand under the model name `judge` (figures.py): unreadable, first, position, stability,
stability.score, agreement, agreement.kappa, agreement.score, self_preference (.own, .second), verbosity,
verbosity.slope, human (.gap, .ceiling, .draws), anchor, anchor_drift.
"""

from zephyr.evals.audit.anchor import against
from zephyr.evals.audit.auditing import check, run

__all__ = ["against", "check", "run"]
