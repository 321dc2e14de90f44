"""Which weights of a training become the model."""

from typing import Literal

from pydantic import model_validator

from zephyr.sections.base import Positive, Section, Text


class Choice(Section):
    by: Literal["last", "loss", "score", "win_rate"] = "last"
    """last: the weights at the end. Else the best of several moments: loss, of the held-out rows; score, the judge's
    mean grade of the answers to held-out prompts; win_rate, how often it prefers them to the starting model's."""
    prompts: Text | None = None
    """Held-out prompts for the judge: rows with `prompt`, `instruction` or `turns`. Never the evaluation's own: the
    choice would be made on the test set. With `last` the judge's grades are measured all the same, and nothing is
    chosen by them."""
    judge: Text = "teacher"
    times: Positive = 5
    """Moments, evenly spread; the last one is the end."""
    limit: Positive = 100
    """Prompts that are asked, the first ones of the file."""
    patience: Positive | None = None
    """End the training when so many moments in a row brought nothing better."""
    max_tokens: Positive = 512
    """Of an answer."""
    judge_max_tokens: Positive = 512

    @property
    def measure(self) -> Literal["", "loss", "score", "win_rate"]:
        """What is measured at the moments; "": nothing is."""
        if self.by == "last":
            return "score" if self.prompts else ""
        return self.by

    @property
    def judged(self) -> bool:
        return self.measure in ("score", "win_rate")

    @model_validator(mode="after")
    def _whole(self) -> "Choice":
        if self.judged and self.prompts is None:
            raise ValueError(f"prompts: choosing by {self.by} needs held-out prompts for the judge; name some")
        if self.patience is not None and self.by == "last":
            raise ValueError("patience: nothing is measured where the last weights are taken; set by")
        return self
