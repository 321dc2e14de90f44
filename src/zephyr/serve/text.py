"""From tokens to text while they come: whole characters only, and nothing that may be part of a stop text."""

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\ufffd"  # what half a character decodes to


class Writer:
    """The text of one answer, given out piece by piece; the pieces joined are the decoded tokens, up to a stop."""

    def __init__(self, tokenizer: Any, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._context = 0  # a token's text depends on the one before it: tokens from here on are decoded together
        self._read = 0
        self._held = ""
        self.stopped = False
        """Whether a stop text came; it is not given out, nor is what follows."""
        self.seen = 0
        """Tokens read, up to the one that completed a stop text."""

    def write(self, tokens: Sequence[int], last: bool) -> str:
        """The next piece, given all tokens so far; `last` gives out what was held back.

        Tokens that came together are looked at one by one, so that where it stops doesn't depend on that.
        """
        if not self._stops:
            self.seen = len(tokens)
            return self._write(tokens, last)
        pieces = []
        while self.seen < len(tokens) and not self.stopped:
            self.seen += 1
            pieces.append(self._write(tokens[: self.seen], False))
        if last and not self.stopped:
            pieces.append(self._write(tokens, True))
        return "".join(pieces)

    def _write(self, tokens: Sequence[int], last: bool) -> str:
        known = self._decode(tokens[self._context : self._read])
        text = self._decode(tokens[self._context :])
        if len(text) > len(known) and (last or not text.endswith(UNFINISHED)):
            self._held += text[len(known) :]
            self._context, self._read = self._read, len(tokens)
        return self._release(last)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _release(self, last: bool) -> str:
        ends = [(place + len(stop), place) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if ends:  # the stop that is complete first
            self.stopped = True
            return self._held[: min(ends)[1]]
        keep = 0 if last else max((_overlap(self._held, stop) for stop in self._stops), default=0)
        out, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return out


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
