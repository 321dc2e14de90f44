"""A small world of answers that say how good they are, and judges behind a server whose bias is known."""

import re
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from tests.benching import bench
from zephyr.evals import alpaca, audit, mt_bench
from zephyr.evals.bench import Bench
from zephyr.schema import Answer
from zephyr.sections import Audit, Endpoint, Evaluate, Safety

PAIRS = 60
QUESTIONS = [{"question_id": n, "category": "math", "turns": [f"first {n}", f"then {n}"]} for n in range(20)]
INSTRUCTIONS = [{"instruction": f"say {n}"} for n in range(PAIRS)]
FAMILIES = {"judge": "here", "new": "here", "second": "elsewhere"}
ANCHOR = [
    {"question_id": n, "model_id": "fixed", "choices": [{"turns": [f"q={n % 9 + 1} one", f"q={n % 7 + 1} two"]}]}
    for n in range(20)
]


def quality(text: str) -> float:
    return float(re.findall(r"q=(\d+)", text)[0])


def answers() -> list[Answer]:
    """Of `base` and `new`: each says how good it is, and both are equally good on average."""
    found = []
    for model in ("base", "new"):
        rng = Random(model)
        for where, count, turns in (("instructions", PAIRS, 1), ("questions", len(QUESTIONS), 2)):
            for n in range(count):
                for turn in range(1, turns + 1):
                    prompt = f"say {n}" if turns == 1 else str(QUESTIONS[n]["turns"][turn - 1])  # type: ignore[index]
                    number = str(n + 1) if turns == 1 else str(n)
                    text = f"q={rng.randint(1, 9)} by {model}" + " more" * rng.randint(0, 9)
                    found.append(
                        Answer(
                            set=where,
                            question_id=number,
                            category="math",
                            model=model,
                            turn=turn,
                            prompt=prompt,
                            answer=text,
                            tokens=1,
                            error=None,
                        )
                    )
    return found


def judge(body: Mapping[str, Any], before: int) -> str:
    """A judge of the world above; the model's name says what is wrong with it."""
    name, prompt = body["model"], body["messages"][-1]["content"]
    rng = Random(f"{name}{prompt}{body['seed']}")
    if not prompt.startswith("# Compare"):
        grade = round(quality(prompt.rpartition("<assistant")[2]) + rng.gauss(0, 0.4))
        return f"So.\nRating: [[{min(10, max(1, grade - (name == 'drifted')))}]]"
    a, b = (re.search(rf"<answer {side}>\n(.*?)\n</answer {side}>", prompt, re.DOTALL)[1] for side in "AB")  # type: ignore[index]
    gap = quality(a) - quality(b) + rng.gauss(0, 0.4)
    gap += {"first": 3.0, "unsteady": rng.gauss(0, 9)}.get(name, 0.0)
    gap += 4 * (("by new" in a) - ("by new" in b)) * (name == "own") + 0.2 * (len(a) - len(b)) * (name == "longer")
    if name == "mute":
        return "I would rather not say."
    return f"So.\nVerdict: [[{'tie' if abs(gap) < 1 else 'A' if gap > 0 else 'B'}]]"


def settings(**more: Any) -> Evaluate:
    own = {"sample": 50, "repeats": 1, "second": "second", "families": FAMILIES, "anchor": "anchor"} | more
    return Evaluate(
        questions="q", instructions="i", judge="judge", bootstrap=400, safety=Safety(prompts=()), audit=Audit(**own)
    )


def opened(work: Path, model: str, url: str, section: Evaluate, **rows: Any) -> Bench:
    ends = {"judge": Endpoint(base_url=url, model=model), "second": Endpoint(base_url=url, model="another")}
    given: dict[str, Any] = {"q": QUESTIONS, "i": INSTRUCTIONS, "anchor": ANCHOR} | rows
    (work / "new").mkdir(exist_ok=True)  # no weights: what it said is given
    return bench(section, work, given, {"new": work / "new"}, ends)


def audited(found: Bench) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary, and figures of the judge."""
    audit.check(found)
    said = answers()
    part = audit.run(found, said, mt_bench.judge(found, said), alpaca.judge(found, said))
    return dict(part.summary), dict(part.figures.get("judge", {}))


def states(summary: Mapping[str, Any]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in summary["checks"]}
