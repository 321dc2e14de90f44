"""The key-value cache of a batch whose rows join and leave: one slot a row, filled from the left."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 64
"""Slots grow by at least so many tokens."""


class View(NamedTuple):
    """What the model needs for one forward."""

    mask: "Tensor"
    """[rows, 1, queries, keys], true where a query may look."""
    positions: "Tensor"
    """[rows, queries]"""
    layers: Any
    """For `past_key_values`."""


class Slots:
    """Keys and values of all layers, [rows, heads, tokens, size] each, of which the first `len(lengths)` rows live."""

    def __init__(self, window: int | None, device: str) -> None:
        """`window`: so many tokens a query looks back; None is without end."""
        self._window = window
        self._device = device
        self._lengths: list[int] = []
        self._joining = False
        self._places: Any = None  # [rows] where the next token of each row is stored
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._layers = _layers(self)

    @contextmanager
    def joining(self, lengths: list[int]) -> Iterator[View]:
        """One forward over the prompts of new rows, padded on the right to the longest of `lengths`."""
        import torch

        width = max(lengths)
        positions = torch.arange(width, device=self._device)
        mask = self._within(positions[None, :], positions[:, None]).expand(len(lengths), 1, width, width)
        self._joining = True
        try:
            yield View(mask, positions.expand(len(lengths), width), self._layers)
        finally:
            self._joining = False
        self._lengths += lengths

    @contextmanager
    def going_on(self) -> Iterator[View]:
        """One forward over one more token of every row."""
        import torch

        self._places = torch.tensor(self._lengths, device=self._device)
        keys = torch.arange(max(self._lengths) + 1, device=self._device)
        mask = self._within(keys[None, :], self._places[:, None])
        yield View(mask[:, None, None, :], self._places[:, None], self._layers)
        self._lengths = [length + 1 for length in self._lengths]

    def drop(self, row: int) -> None:
        """Free a row's slot; the last row moves into it."""
        last = len(self._lengths) - 1
        if row != last:
            length = self._lengths[last]
            for tensor in (*self._keys, *self._values):
                tensor[row, :, :length] = tensor[last, :, :length]
            self._lengths[row] = self._lengths[last]
        self._lengths.pop()
        if not self._lengths:  # what a long conversation took is given back when nobody speaks
            self._keys, self._values = [], []

    def update(self, layer: int, keys: "Tensor", values: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Store new keys and values [rows, heads, queries, size]; returns those that the queries may look at."""
        import torch

        count = len(self._lengths)
        if self._joining:
            width = keys.shape[2]
            self._reserve(layer, count + len(keys), width, keys, values)
            self._keys[layer][count : count + len(keys), :, :width] = keys
            self._values[layer][count : count + len(keys), :, :width] = values
            return keys, values
        width = max(self._lengths) + 1
        self._reserve(layer, count, width, keys, values)
        rows = torch.arange(count, device=keys.device)
        self._keys[layer][rows, :, self._places] = keys[:, :, 0]
        self._values[layer][rows, :, self._places] = values[:, :, 0]
        return self._keys[layer][:count, :, :width], self._values[layer][:count, :, :width]

    def _reserve(self, layer: int, rows: int, width: int, keys: "Tensor", values: "Tensor") -> None:
        """Make room for `rows` rows of `width` tokens in a layer, doubling what is there."""
        for store, like in ((self._keys, keys), (self._values, values)):
            if len(store) == layer:
                store.append(like.new_zeros(0, like.shape[1], 0, like.shape[3]))
            old = store[layer]
            if rows > old.shape[0] or width > old.shape[2]:
                tall = old.shape[0] if rows <= old.shape[0] else max(rows, 2 * old.shape[0])
                wide = old.shape[2] if width <= old.shape[2] else max(width + BLOCK, 2 * old.shape[2])
                store[layer] = like.new_zeros(tall, like.shape[1], wide, like.shape[3])
                store[layer][: old.shape[0], :, : old.shape[2]] = old

    def _within(self, keys: "Tensor", queries: "Tensor") -> "Tensor":
        seen = keys <= queries
        return seen if self._window is None else seen & (keys > queries - self._window)


def _layers(slots: Slots) -> Any:
    """What transformers takes for a cache, and asks to store keys and values."""
    from transformers import Cache

    class Layers(Cache):  # type: ignore[misc]
        def update(
            self, key_states: "Tensor", value_states: "Tensor", layer_idx: int, *_: Any, **__: Any
        ) -> tuple["Tensor", "Tensor"]:
            return slots.update(layer_idx, key_states, value_states)

    return Layers(layers=[])
