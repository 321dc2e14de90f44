"""Reference log-probabilities: equal to a loop over sentences, found by what may use them, gone on with, made again."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import tiny_model, tokenizer
from tests.training import job
from zephyr.data import template
from zephyr.errors import ModelError
from zephyr.progress import Progress
from zephyr.recipe import Recipe, check
from zephyr.schema import Message, Pair
from zephyr.train import model as models
from zephyr.train import reference
from zephyr.train.job import Job
from zephyr.train.rows import Rows, encode

WORDS = ["the", "cat", "sat", "on", "a", "mat", "one", "two", "three", "four"]


def recipe(seed: int = 0, **dpo: object) -> Recipe:
    return check({"name": "test", "seed": seed, "model": {"base": "unused", "dtype": "float32"}, "dpo": dpo})


def pair(number: int) -> Pair:
    prompt: Message = {"role": "user", "content": "say " + " ".join(WORDS[: 1 + number % 4])}
    return Pair(
        prompt=prompt["content"],
        prompt_id=str(number),
        chosen=[prompt, {"role": "assistant", "content": " ".join(WORDS[number % 7 :])}],
        rejected=[prompt, {"role": "assistant", "content": "no " * (1 + number % 5)}],
        score_chosen=5.0,
        score_rejected=1.0,
        chosen_model="a",
        rejected_model="b",
    )


PAIRS = [pair(n) for n in range(9)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


class Told(Progress):
    """Keeps what is told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, Mapping[str, Any]]] = []

    def event(self, kind: str, **fields: Any) -> None:
        self.said.append((kind, fields))

    @property
    def notes(self) -> list[str]:
        return [fields["text"] for kind, fields in self.said if kind == "note"]


def sentence(model: Any, prompt: np.ndarray, completion: np.ndarray) -> float:
    """Log-probability of a completion, one sentence alone: what every faster way must agree with."""
    import torch

    ids = torch.from_numpy(np.concatenate([prompt, completion]).astype(np.int64))[None]
    logits = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return float(logits.gather(1, ids[0, len(prompt) :, None]).sum())


def looped(rows: Rows, asked: list[int], broken_at: int | None = None) -> Callable[[Any, np.ndarray], Any]:
    """A forward that notes which pairs it is asked for; the process ends before pair number `broken_at` of these."""
    import torch

    def forward(model: Any, indices: np.ndarray) -> Any:
        found = []
        for index in indices.tolist():
            if len(asked) == broken_at:
                raise SystemExit(137)
            asked.append(index)
            prompt, chosen, rejected = rows.pair(index)
            found.append([sentence(model, prompt, chosen), sentence(model, prompt, rejected)])
        return torch.tensor(found, dtype=torch.float64)

    return forward


def measure(
    base: Path,
    work: Path,
    settings: Recipe | None = None,
    pairs: Sequence[Pair] = PAIRS,
    broken_at: int | None = None,
    part: int = reference.PART,
    progress: Progress | None = None,
    **more: Any,
) -> tuple[np.ndarray, list[int], Job, Rows]:
    """Log-probabilities of pairs, which pairs were computed for them, and by which job."""
    own = job("dpo", base, pairs, [], settings or recipe(), work, work / "out", **more)
    network, tok = models.load(own.model, own.recipe, own.section)
    rows = encode(own, tok, "train")
    asked: list[int] = []
    found = reference.logps(own, rows, network, looped(rows, asked, broken_at), progress or Progress(), part=part)
    return found, asked, own, rows


def test_it_is_what_a_live_reference_says(base: Path, tmp_path: Path) -> None:
    import torch

    found, asked, own, rows = measure(base, tmp_path / "work", recipe(device_tokens=64))
    assert found.shape == (9, 2) and found.dtype == np.float64
    assert sorted(asked) == list(range(9))
    network, _ = models.load(own.model, own.recipe)
    with torch.no_grad():
        for index in range(9):
            prompt, chosen, rejected = rows.pair(index)
            wanted = [sentence(network, prompt, chosen), sentence(network, prompt, rejected)]
            assert found[index] == pytest.approx(wanted, rel=1e-6)


def test_the_longest_pairs_come_first(base: Path, tmp_path: Path) -> None:
    _, asked, _, rows = measure(base, tmp_path / "work", recipe(device_tokens=1), part=1)
    sizes = [int(rows.sizes[index]) for index in asked]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    "dpo",
    [
        {"learning_rate": 1e-3},
        {"beta": 0.5},
        {"loss": "hinge", "epochs": 1},
        {"device_tokens": 40, "log_steps": 1},
        {"lora": {"r": 4}},
        {"global_batch_size": 4, "optimizer": "rmsprop"},
    ],
)
def test_a_sweep_finds_it(base: Path, tmp_path: Path, dpo: dict[str, object]) -> None:
    first, _, _, _ = measure(base, tmp_path / "work")
    again, asked, _, _ = measure(base, tmp_path / "elsewhere", recipe(seed=1, **dpo), key="1" * 64, step="dpo_on_base")
    assert asked == []
    assert np.array_equal(first, again)


@pytest.mark.parametrize("what", ["weights", "max_length", "max_prompt_length", "truncation", "rows"])
def test_what_changes_the_numbers_makes_it_anew(base: Path, tmp_path: Path, what: str) -> None:
    short: dict[str, Any] = {"max_length": 30}
    measure(base, tmp_path / "work", recipe(**short))
    changed = {
        "max_length": {"max_length": 28},
        "max_prompt_length": {"max_prompt_length": 18},
        "truncation": {"truncation": "keep_end"},
    }
    pairs = PAIRS[::-1] if what == "rows" else PAIRS
    more = {"weights": "others"} if what == "weights" else {}
    _, asked, _, rows = measure(base, tmp_path / "b", recipe(**(short | changed.get(what, {}))), pairs, **more)
    assert len(rows) > 0
    assert sorted(asked) == list(range(len(rows)))


def test_another_type_or_template_makes_it_anew(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers themselves can't show it on a CPU, which computes in float32 and knows one template: the key does."""
    _, _, own, rows = measure(base, tmp_path / "work")
    usual = reference.settings(own, rows)
    monkeypatch.setattr(template, "CHAT_TEMPLATE", template.CHAT_TEMPLATE + " ")
    assert reference.settings(own, rows) != usual
    monkeypatch.undo()
    monkeypatch.setattr(models, "dtypes", lambda *_: ("bfloat16", "bfloat16"))
    assert reference.settings(own, rows) != usual


@pytest.mark.parametrize("ended_after", [1, 4, 8])
def test_a_killed_pass_goes_on(base: Path, tmp_path: Path, ended_after: int) -> None:
    whole, _, _, _ = measure(base, tmp_path / "whole", store=str(tmp_path / "other"))
    small = recipe(device_tokens=1)  # one pair in a forward, and in a part
    with pytest.raises(SystemExit):
        measure(base, tmp_path / "work", small, broken_at=ended_after, part=1)
    # On another disk, with another batch: only the store is the same.
    found, asked, own, _ = measure(base, tmp_path / "elsewhere", part=1)
    assert len(asked) == 9 - ended_after
    assert np.array_equal(found, whole)
    assert [path.name for path in Path(own.store).glob("reference/*/part-*")] == []


def test_a_damaged_part_is_computed_again(base: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        measure(base, tmp_path / "work", recipe(device_tokens=1), broken_at=3, part=1)
    kept = sorted((tmp_path / "store").glob("reference/*/part-*"))
    assert len(kept) == 3
    kept[1].write_text(kept[1].read_text().replace("-", "", 1))
    _, asked, _, _ = measure(base, tmp_path / "work", part=1)
    assert len(asked) == 9 - 2


@pytest.mark.slow
def test_a_bucket_keeps_parts_and_whole(base: Path, tmp_path: Path, s3: str) -> None:
    from zephyr.s3 import client

    client().create_bucket(Bucket="reference")
    place = {"store": "s3://reference/store"}
    with pytest.raises(SystemExit):
        measure(base, tmp_path / "a" / "work", recipe(device_tokens=1), broken_at=4, part=1, **place)
    first, asked, _, _ = measure(base, tmp_path / "b" / "work", part=1, **place)
    assert len(asked) == 5
    again, asked, _, _ = measure(base, tmp_path / "c" / "work", **place)
    assert asked == [] and np.array_equal(first, again)
    left = [item["Key"].rsplit("/", 1)[1] for item in client().list_objects_v2(Bucket="reference")["Contents"]]
    assert sorted(left) == ["logps.npy", "manifest.json"]


@pytest.mark.parametrize("damage", ["content", "manifest", "missing"])
def test_what_the_store_holds_damaged_is_made_again(base: Path, tmp_path: Path, damage: str) -> None:
    first, _, _, _ = measure(base, tmp_path / "work")
    (folder,) = (tmp_path / "store" / "reference").iterdir()
    if damage == "content":
        values = np.load(folder / "logps.npy")
        np.save(folder / "logps.npy", values + 1)
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{")
    else:
        (folder / "logps.npy").unlink()
    told = Told()
    again, asked, _, _ = measure(base, tmp_path / "work", progress=told)
    assert len(asked) == 9
    assert np.array_equal(first, again)
    assert any("the reference is computed again" in note for note in told.notes)
    assert measure(base, tmp_path / "work")[1] == []  # whole again


def test_who_uses_which_is_told(base: Path, tmp_path: Path) -> None:
    for said in ("computed", "found in the store"):
        told = Told()
        measure(base, tmp_path / "work", progress=told)
        assert f"reference log-probabilities of 9 pairs: {said}" in told.notes
        (fields,) = [fields for kind, fields in told.said if kind == "reference"]
        manifest = json.loads((Path(fields["uri"]) / "manifest.json").read_text())
        assert manifest["digest"] == fields["digest"]
        assert manifest["settings"]["weights"] == base.name


def test_an_adapter_is_left_out(base: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    plain, _, own, rows = measure(base, tmp_path / "work")
    network, _ = models.load(own.model, own.recipe)
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, lora_dropout=0.5)
    adapted: Any = get_peft_model(network, config).train()
    with torch.no_grad():
        assert sentence(adapted, *rows.pair(0)[:2]) != pytest.approx(plain[0, 0], rel=1e-3)
    other = job("dpo", base, PAIRS, [], recipe(), tmp_path / "w", tmp_path / "o", store=str(tmp_path / "empty"))
    found = reference.logps(other, rows, adapted, looped(rows, []), Progress())
    assert found == pytest.approx(plain, rel=1e-6)
    assert adapted.training  # as it was


def test_weights_that_give_no_number_are_refused(base: Path, tmp_path: Path) -> None:
    import torch

    own = job("dpo", base, PAIRS, [], recipe(), tmp_path / "w", tmp_path / "o")
    network, _ = models.load(own.model, own.recipe)
    rows = encode(own, template.install(tokenizer()), "train")
    with torch.no_grad():
        network.lm_head.weight[5] = float("nan")
    with pytest.raises(ModelError, match="aren't finite"):
        reference.logps(own, rows, network, looped(rows, []), Progress())
    assert not (Path(own.store) / "reference").exists()
