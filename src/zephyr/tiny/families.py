"""Eight families of instructions after MT-Bench's categories, with a second turn that builds on the first."""

from collections.abc import Callable, Iterable
from random import Random

from zephyr.tiny.kinds import Fields, Kind, Turn, cross, turn
from zephyr.tiny.lexicon import ANIMALS, COLORS, JOBS, NAMES, OPPOSITES, PLACES, THINGS
from zephyr.tiny.lookups import EXTRACTION, HUMANITIES, STEM

FAMILIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")

# Math

_RESULT = ("The answer is {}.", "The result is {}.")


def _number(forms: Iterable[str], value: int, *operands: str) -> Turn:
    near = (value + 1, value - 1, value + 2, value - 2, value + 10)
    form = turn(forms, str(value), (str(other) for other in near if other >= 0))
    every = {str(number) for number in range(100)} - {str(value), *operands}
    return Turn(form.answers, form.mistakes, form.required, frozenset(every))


def _arithmetic(phrasings: tuple[str, ...], sign: int) -> Kind:
    def draw(rng: Random) -> dict[str, str]:
        a, b = (rng.randint(1, 12), rng.randint(1, 9)) if sign > 0 else (rng.randint(6, 20), rng.randint(1, 6))
        return {"a": str(a), "b": str(b), "c": str(rng.randint(1, 5))}

    def result(f: Fields) -> int:
        return int(f["a"]) + sign * int(f["b"])

    return Kind(
        "math",
        phrasings,
        ("Now add {c} to that.", "Add {c} more. What is it now?", "What if you add {c} to it?"),
        draw,
        lambda f: _number(_RESULT, result(f), f["a"], f["b"]),
        lambda f: _number(("Now it is {}.", "That makes {}."), result(f) + int(f["c"]), str(result(f)), f["c"]),
    )


MATH = (
    _arithmetic(
        (
            "What is {a} plus {b}?",
            "Add {a} and {b}.",
            "Find the sum of {a} and {b}.",
            "A boy has {a} coins and gets {b} more. How many is that?",
        ),
        1,
    ),
    _arithmetic(
        (
            "What is {a} minus {b}?",
            "Take {b} away from {a}.",
            "Find {a} minus {b}.",
            "A girl has {a} coins and spends {b} of them. How many are left?",
        ),
        -1,
    ),
)

# Reasoning

_SUPPOSE = (
    "Suppose {a} is {more} than {b}.",
    "We know that {a} is {more} than {b}.",
    "Here {a} is {more} than {b}.",
)


def _compare() -> Kind:
    def draw(rng: Random) -> dict[str, str]:
        a, b = rng.sample(NAMES, 2)
        more = rng.choice(tuple(OPPOSITES))
        asked, other = rng.sample((more, OPPOSITES[more]), 2)
        return {"a": a, "b": b, "more": more, "asked": asked, "other": other}

    def solve(slot: str) -> Callable[[Fields], Turn]:
        def solution(f: Fields) -> Turn:
            value, wrong = (f["a"], f["b"]) if f[slot] == f["more"] else (f["b"], f["a"])
            return turn((f"The {f[slot]} one is {{}}.", "That must be {}."), value, (wrong,))

        return solution

    return Kind(
        "reasoning",
        cross(_SUPPOSE, (" Who is {asked}?", " Which one is {asked}?")),
        ("And who is {other}?", "Then who is {other}?"),
        draw,
        solve("asked"),
        solve("other"),
        lambda f: OPPOSITES[f["asked"]],
    )


def _rule() -> Kind:
    def draw(rng: Random) -> dict[str, str]:
        (x, y), (p, q) = rng.sample(ANIMALS, 2), rng.sample(COLORS, 2)
        asked, other = (x, y) if rng.random() < 0.5 else (y, x)
        return {"x": x, "y": y, "p": p, "q": q, "name": rng.choice(NAMES), "asked": asked, "other": other}

    def solve(slot: str) -> Callable[[Fields], Turn]:
        def solution(f: Fields) -> Turn:
            value, wrong = (f["p"], f["q"]) if f[slot] == f["x"] else (f["q"], f["p"])
            return turn((f"The {f[slot]} is {{}}.", f"That {f[slot]} is {{}}."), value, (wrong,))

        return solution

    return Kind(
        "reasoning",
        cross(
            (
                "Suppose every {x} is {p} and every {y} is {q}.",
                "Say that each {x} is {p} and each {y} is {q}.",
            ),
            (" Now {name} has a {asked}. What color is it?", " What color is the {asked} of {name}?"),
        ),
        ("And what color is a {other}?", "Then what color is a {other}?"),
        draw,
        solve("asked"),
        solve("other"),
        lambda f: f["y"] if f["asked"] == f["x"] else f["x"],
    )


REASONING = (_compare(), _rule())

# Coding

_CODE = ("Use this: {}", "This works: {}")


def _print_word() -> Kind:
    def draw(rng: Random) -> dict[str, str]:
        return {"word": rng.choice(THINGS + ANIMALS + PLACES), "n": str(rng.randint(2, 9))}

    words = THINGS[:6] + ANIMALS[:6]
    return Kind(
        "coding",
        (
            'Write Python code that prints "{word}".',
            'How do I print "{word}" in Python?',
            'Print "{word}" with Python.',
        ),
        ("Now print it {n} times.", "Change it to print {n} times."),
        draw,
        lambda f: turn(_CODE, f'print("{f["word"]}")', (f'print("{w}")' for w in words)),
        lambda f: turn(
            _CODE,
            f'print("{f["word"]}" * {f["n"]})',
            (f'print("{f["word"]}" * {n})' for n in range(2, 10)),
        ),
    )


def _print_sum() -> Kind:
    def draw(rng: Random) -> dict[str, str]:
        a, b = rng.sample(range(2, 20), 2)
        return {"a": str(a), "b": str(b), "op": rng.choice(("minus", "times"))}

    def code(f: Fields, op: str) -> str:
        return f"print({f['a']} {op} {f['b']})"

    signs = {"minus": "-", "times": "*"}
    return Kind(
        "coding",
        (
            "Write Python code that prints {a} plus {b}.",
            "How do I print {a} plus {b} in Python?",
            "Print {a} plus {b} with Python.",
        ),
        ("Now use {op} instead of plus.", "Change plus to {op}."),
        draw,
        lambda f: turn(_CODE, code(f, "+"), (code(f, "-"), f"print({f['b']} + {f['b']})")),
        lambda f: turn(_CODE, code(f, signs[f["op"]]), (code(f, op) for op in "+-*")),
    )


CODING = (_print_word(), _print_sum())

# Writing and roleplay


def _story() -> Kind:
    def draw(rng: Random) -> dict[str, str]:
        return {"animal": rng.choice(ANIMALS), "place": rng.choice(PLACES), "thing": rng.choice(THINGS)}

    starts = (
        "One day a {} walked to the {}.",
        "There was a {} who lived near the {}.",
        "A little {} slept by the {}.",
    )

    def begin(f: Fields) -> Turn:
        wrong = [(a, f["place"]) for a in ANIMALS if a != f["animal"]] + [
            (f["animal"], p) for p in PLACES if p != f["place"]
        ]
        return Turn(
            tuple(form.format(f["animal"], f["place"]) for form in starts),
            tuple(form.format(*pair) for form in starts for pair in wrong),
            (f["animal"], f["place"]),
            frozenset(),
        )

    def go_on(f: Fields) -> Turn:
        forms = (f"Then the {f['animal']} found a {{}}.", f"Later the {f['animal']} dreamed of a {{}}.")
        form = turn(forms, f["thing"], THINGS)
        return Turn(form.answers, form.mistakes, form.required, frozenset())

    return Kind(
        "writing",
        (
            "Write a sentence with the words {animal} and {place}.",
            "Use {animal} and {place} in one sentence.",
            "Write a short line about a {animal} and a {place}.",
            "Tell a tiny story about a {animal} and a {place}.",
        ),
        (
            "Now go on with the word {thing}.",
            "Write one more line with a {thing}.",
            "Add a sentence about a {thing}.",
        ),
        draw,
        begin,
        go_on,
    )


_PLAY = (
    "You are {name} the {job}. Say hello.",
    "Play {name} the {job} and greet me.",
    "Act as a {job} named {name}. Who are you?",
    "Pretend to be {name}, a {job}. Say hello to me.",
)


def _draw_role(rng: Random) -> dict[str, str]:
    return {"name": rng.choice(NAMES), "job": rng.choice(tuple(JOBS))}


def _greet(f: Fields) -> Turn:
    forms = ("Hello, I am {} the {}.", "Good day, my name is {} and I am a {}.")
    wrong = [(f["name"], j) for j in JOBS if j != f["job"]] + [(n, f["job"]) for n in NAMES if n != f["name"]]
    return Turn(
        tuple(form.format(f["name"], f["job"]) for form in forms),
        tuple(form.format(*pair) for form in forms for pair in wrong),
        (f["name"], f["job"]),
        frozenset(),
    )


ROLEPLAY = (
    Kind(
        "roleplay",
        _PLAY,
        ("What do you do all day?", "Tell me about your work."),
        _draw_role,
        _greet,
        lambda f: turn(("Every day I {}.", "My work is to {}."), JOBS[f["job"]], JOBS.values()),
    ),
    Kind(
        "roleplay",
        _PLAY,
        ("Now say goodbye.", "Say goodbye to me."),
        _draw_role,
        _greet,
        lambda f: Turn(
            (f"Goodbye from {f['name']} the {f['job']}.",),
            tuple(f"Goodbye from {f['name']} the {job}." for job in JOBS if job != f["job"]),
            ("Goodbye", f["name"], f["job"]),
            frozenset(),
        ),
    ),
)

WRITING = (_story(),)
KINDS: dict[str, tuple[Kind, ...]] = dict(
    zip(
        FAMILIES,
        (WRITING, ROLEPLAY, REASONING, MATH, CODING, EXTRACTION, STEM, HUMANITIES),
        strict=True,
    )
)
