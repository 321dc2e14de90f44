"""Charts as inline SVG: each is 360 units wide, legible on a phone as it is and on a desk enlarged.

Colours come from the page's style (classes s0 to s5), where they differ between light and dark; dashes and markers say
the same without colour. Whatever text goes in is escaped by Markup.format.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH = 360
STYLES = 6
DASHES = ("", "6 3", "2 3", "9 3 2 3", "4 2", "1 2")

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    name: str
    points: Sequence[Point]
    style: int
    joined: bool = True
    """A line; else markers alone, for a few measurements."""
    marked: bool = False
    """A line with markers."""
    spans: Sequence[tuple[float, float]] = ()
    """The interval of each point, where it has one."""


def svg(height: float, label: str, parts: Sequence[Markup]) -> Markup:
    """The frame of a chart; `label` is what a screen reader says of it."""
    head = Markup('<svg viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">').format(WIDTH, height, cut(label, 2000))
    return head + Markup("").join(parts) + Markup("</svg>")


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, kind, words)


def segment(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def marker(x: float, y: float, style: int, hollow: bool = False) -> Markup:
    """A small sign of the series: disc, square, triangle, diamond, cross-shaped star, flat bar."""
    kind = f"m s{style % STYLES}" + (" hollow" if hollow else "")
    shapes = (
        None,
        ((-3.4, -3.4), (3.4, -3.4), (3.4, 3.4), (-3.4, 3.4)),
        ((0, -4.4), (4.2, 3.4), (-4.2, 3.4)),
        ((0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0)),
        ((0, -5), (1.3, -1.3), (5, 0), (1.3, 1.3), (0, 5), (-1.3, 1.3), (-5, 0), (-1.3, -1.3)),
        ((-4.5, -2), (4.5, -2), (4.5, 2), (-4.5, 2)),
    )
    shape = shapes[style % STYLES]
    if shape is None:
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.7" class="{}"/>').format(x, y, kind)
    corners = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in shape)
    return Markup('<polygon points="{}" class="{}"/>').format(corners, kind)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that cover low to high."""
    span = high - low or abs(high) or 1.0
    raw = span / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 10) for n in range(first, max(last, first + 1) + 1)]


def number(value: float) -> str:
    """A number for an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def legend(series: Sequence[Series], y: float) -> tuple[list[Markup], float]:
    """Names with their signs, in as many rows as they need; and the height that took. A name is listed once."""
    parts: list[Markup] = []
    x, top = 8.0, y
    for name in dict.fromkeys(one.name for one in series):
        own = [one for one in series if one.name == name]
        shown = cut(name, 42)
        wide = 40 + 7.4 * len(shown)
        if x > 8 and x + wide > WIDTH:
            x, top = 8.0, top + 17
        for one in own:
            if one.joined:
                parts.append(_path([(x, top), (x + 22, top)], one.style))
            if one.marked or not one.joined:
                parts.append(marker(x + 11, top, one.style, hollow=not one.joined))
        parts.append(text(x + 28, top + 4, shown))
        x += wide
    return parts, top - y + 14


def lines(
    series: Sequence[Series],
    x_name: str,
    label: str,
    bounds: tuple[float | None, float | None] = (None, None),
    percent: bool = False,
    at: float | None = None,
) -> Markup:
    """Lines and markers over two axes; `bounds` fix the vertical one, `at` draws a level to compare with."""
    parts, head = legend(series, 10)
    points = [point for one in series for point in one.points]
    ys = [y for _, y in points] + ([] if at is None else [at])
    ys += [y for one in series for span in one.spans for y in span]
    x_ticks = ticks(min(x for x, _ in points), max(x for x, _ in points))
    low, high = bounds
    y_ticks = ticks(min(ys) if low is None else low, max(ys) if high is None else high)
    left, right, top, bottom = 44.0, WIDTH - 12.0, head + 14, head + 174

    def place(point: Point) -> Point:
        across = (point[0] - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (point[1] - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return left + across * (right - left), bottom - up * (bottom - top)

    for tick in y_ticks:
        y = place((x_ticks[0], tick))[1]
        parts += [segment(left, y, right, y, "grid"), text(left - 6, y + 4, _tick(tick, percent), "end")]
    for tick in x_ticks:
        x = place((tick, y_ticks[0]))[0]
        parts.append(text(x, bottom + 16, number(tick), "end" if x > right - 12 else "middle"))
    if at is not None:
        y = place((x_ticks[0], at))[1]
        parts.append(segment(left, y, right, y, "level"))
    for one in series:
        placed = [place(point) for point in one.points]
        for (x, _), span in zip(one.points, one.spans, strict=False):
            ends = [place((x, y)) for y in span]
            parts.append(segment(*ends[0], *ends[1], f"whisker s{one.style % STYLES}"))
        if one.joined and len(placed) > 1:
            parts.append(_path(placed, one.style))
        if one.marked or not one.joined or len(placed) == 1:
            parts += [marker(x, y, one.style, hollow=not one.joined) for x, y in placed]
    parts.append(text((left + right) / 2, bottom + 32, x_name, "middle"))
    return svg(bottom + 38, label, parts)


def _tick(value: float, percent: bool) -> str:
    return f"{100 * value:g}%" if percent else number(value)


def _path(points: Sequence[Point], style: int) -> Markup:
    placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline points="{}" class="l s{}" stroke-dasharray="{}"/>').format(
        placed, style % STYLES, DASHES[style % STYLES]
    )


def radar(
    axes: Sequence[str], series: Sequence[tuple[str, int, Sequence[float | None]]], top: float, label: str
) -> Markup:
    """One axis per category from 0 in the middle to `top`; `series` are names, styles, values (None leaves a gap)."""
    parts, head = legend([Series(name, (), style, marked=True) for name, style, _ in series], 10)
    radius, middle = 96.0, (WIDTH / 2, head + 134.0)

    def place(axis: int, value: float) -> Point:
        angle = 2 * math.pi * axis / len(axes) - math.pi / 2
        return middle[0] + radius * value / top * math.cos(angle), middle[1] + radius * value / top * math.sin(angle)

    for share in (0.25, 0.5, 0.75, 1.0):
        ring = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(i, share * top) for i in range(len(axes))))
        parts.append(Markup('<polygon points="{}" class="ring"/>').format(ring))
    for i, name in enumerate(axes):
        x, y = place(i, top)
        parts.append(segment(*middle, x, y, "grid"))
        x, y = place(i, top * 1.1)
        side = "middle" if abs(x - middle[0]) < 8 else "start" if x > middle[0] else "end"
        parts.append(text(x, y + 4, cut(name, 11), side))
    for _, style, values in series:
        placed = [place(axis, value) for axis, value in enumerate(values) if value is not None]
        if len(placed) == len(axes):
            parts.append(_path([*placed, placed[0]], style))
        parts += [marker(x, y, style) for x, y in placed]
    parts += [text(middle[0] + 4, place(0, share * top)[1] + 12, number(share * top)) for share in (0.5, 1.0)]
    return svg(head + 262, label, parts)


@dataclass(frozen=True)
class Whisker:
    """An estimate with its interval."""

    name: str
    mean: float
    low: float
    high: float
    style: int
    hollow: bool = False


def whiskers(
    rows: Sequence[Whisker], bounds: tuple[float, float], at: float | None, label: str, form: str = ".1f"
) -> Markup:
    """One line per estimate on a common axis, its figures in words above it, and a level to compare with, if any."""
    left, right, top = 12.0, WIDTH - 12.0, 8.0
    low, high = bounds

    def place(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (right - left)

    bottom = top + 38 * len(rows)
    parts = [segment(place(tick), top, place(tick), bottom, "grid") for tick in ticks(low, high)]
    if at is not None:
        parts.append(segment(place(at), top, place(at), bottom, "level"))
    for i, row in enumerate(rows):
        y = top + 38 * i + 26
        parts += [
            text(left, y - 11, cut(row.name, 29)),
            text(right, y - 11, f"{row.mean:{form}} [{row.low:{form}}, {row.high:{form}}]", "end", "strong"),
            segment(place(row.low), y, place(row.high), y, f"whisker s{row.style % STYLES}"),
            *(segment(place(end), y - 4, place(end), y + 4, f"whisker s{row.style}") for end in (row.low, row.high)),
            marker(place(row.mean), y, row.style, row.hollow),
        ]
    for tick in ticks(low, high):
        side = "start" if tick == low else "end" if tick == high else "middle"
        parts.append(text(place(tick), bottom + 14, number(tick), side))
    return svg(bottom + 20, label, parts)


def strip(
    mean: float,
    low: float,
    high: float,
    limits: tuple[float | None, float | None],
    fair: float | None,
    percent: bool,
    look: str,
    label: str,
) -> Markup:
    """One estimate on an axis of its own: the tolerated range as a band, what would be fair as a level."""
    known = [value for value in (mean, low, high, *limits, fair) if value is not None]
    span = (max(known) - min(known)) or 1.0
    left, right = min(known) - span / 8, max(known) + span / 8
    if percent:
        left, right = max(left, 0.0), min(right, 100.0)

    def place(value: float) -> float:
        return 4 + (min(max(value, left), right) - left) / (right - left) * 152

    start, end = (place(left if limits[0] is None else limits[0]), place(right if limits[1] is None else limits[1]))
    parts = [
        Markup('<svg viewBox="0 0 160 24" role="img" aria-label="{}" class="strip">').format(cut(label, 500)),
        Markup('<rect x="{:.1f}" y="5" width="{:.1f}" height="14" class="band"/>').format(start, max(end - start, 0.0)),
        segment(4, 19, 156, 19, "grid"),
        *([] if fair is None else [segment(place(fair), 3, place(fair), 21, "level")]),
        segment(place(low), 12, place(high), 12, f"whisker {look}"),
        Markup('<circle cx="{:.1f}" cy="12" r="4" class="m {}"/>').format(place(mean), look),
        Markup("</svg>"),
    ]
    return Markup("").join(parts)


def shares(kept: Sequence[int], lost: Sequence[int], label: str) -> Markup:
    """What was kept (full height) and what was lost (half of it), as parts of one bar as wide as its place."""
    whole = sum(kept) + sum(lost) or 1
    parts, x = (
        [Markup('<svg viewBox="0 0 100 16" preserveAspectRatio="none" role="img" aria-label="{}">').format(label)],
        0.0,
    )
    for i, count in enumerate((*kept, *lost)):
        wide, (y, kind) = 100 * count / whole, (0, f"s{i}") if i < len(kept) else (10, "lost")
        shape = Markup('<rect x="{:.2f}" y="{}" width="{:.2f}" height="{}" class="{}"/>')
        parts.append(shape.format(x, y, max(wide - 0.4, 0.2) if count else 0, 16 - y, kind))
        x += wide
    return Markup("").join([*parts, Markup("</svg>")])


def cut(words: str, most: int) -> str:
    """At most so many characters."""
    return words if len(words) <= most else words[: most - 1] + "…"
