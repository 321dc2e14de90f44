"""The reference's log-probabilities: computed once, kept in the store, found by all that trains on the same pairs.

    {store}/reference/{key[:16]}/logps.npy      [pairs, 2], float64, nats: chosen and rejected completion

The key says what decides the numbers: weights, token ids (with them lengths and truncation), their type, the template.
Learning rate, beta, epochs, batches, attention and folders do not, so a sweep pays for the pass once. The pairs are
computed longest first, in parts that are kept in the store until the whole is: a killed pass goes on.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from zephyr.artifacts import Store, open_store, step_key
from zephyr.data import template
from zephyr.errors import ArtifactError, ModelError
from zephyr.progress import Progress
from zephyr.train import batches, ranks
from zephyr.train import model as models
from zephyr.train.job import Job

if TYPE_CHECKING:
    import torch

    from zephyr.train.rows import Rows

STEP, VERSION = "reference", 1
FILE = "logps.npy"
PART = 1 << 20
"""Tokens of a part: half a minute of a 7B model on one H100."""

Forward = Callable[[Any, np.ndarray], "torch.Tensor"]
"""Model and indices [b] of pairs to the log-probabilities [b, 2] of their completions."""


def logps(
    job: Job, rows: "Rows", model: Any, forward: Forward, progress: Progress, padded: bool = False, part: int = PART
) -> np.ndarray:
    """[n, 2] float64: log-probability of each pair's chosen and rejected completion under the weights `job.weights`.

    Every process calls it, before the trainer changes `model` or hands it to DeepSpeed; an adapter on it is left out.
    `forward` is called without gradients, with as many pairs as `device_tokens` allows (`padded`: filled up to the
    longest). What the store holds damaged is made again. Raises StoreError, and ModelError for weights that give NaN.
    """
    import torch

    assert ranks.processes() == 1 or torch.distributed.is_initialized(), "the trainer's arguments come first"
    store = open_store(job.store, job.cache)
    settings = _settings(job, rows)
    place = f"{STEP}/{step_key(STEP, VERSION, settings, {})[:16]}"
    parts = _parts(rows.sizes, part)
    first = ranks.rank() == 0
    done, values = _kept(store, place, settings, parts, len(rows), progress) if first else _nothing(parts, len(rows))
    device = "cuda" if models.on_gpu() else "cpu"
    done, values = (ranks.sums(torch.from_numpy(array).to(device)).cpu().numpy() for array in (done, values))
    if done.all():
        return values  # type: ignore[no-any-return]
    with _computing(model, job) as network:
        for number in np.flatnonzero(done == 0).tolist():
            indices = parts[number]
            found = _pass(network, rows.sizes[indices], indices, forward, job, padded)
            values[indices] = ranks.sums(found).cpu().numpy()
            if not np.isfinite(values[indices]).all():
                raise ModelError(f"{job.model}: its log-probabilities aren't finite, so nothing can be trained on it")
            if first and len(parts) > 1:
                store.shelve(place, _name(number), _text(values[indices]))
            done[number] = 1
            ready = int(sum(len(indices) for indices, whole in zip(parts, done, strict=True) if whole))
            progress.advance(ready, len(rows), "reference pairs")
    if first:
        _publish(store, settings, values)
    ranks.wait()
    return values  # type: ignore[no-any-return]


def uri(job: Job, rows: "Rows") -> str:
    """Where the store keeps, or would keep, the log-probabilities of these rows."""
    return f"{job.store}/{STEP}/{step_key(STEP, VERSION, _settings(job, rows), {})[:16]}"


def _settings(job: Job, rows: "Rows") -> dict[str, Any]:
    held, computed = models.dtypes(job.recipe, job.section)
    return {
        "weights": job.weights,
        "rows": rows.digest,
        "dtype": held if held == computed else f"{held}, computed in {computed}",
        "quantize": job.recipe.model.quantize,
        "template": template.digest(),
    }


def _parts(sizes: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Indices of the pairs, longest first, cut where so many tokens are full: the same whoever computes them."""
    order = np.argsort(-sizes, kind="stable")
    numbers = (np.cumsum(sizes[order]) - 1) // tokens
    return np.split(order, np.flatnonzero(np.diff(numbers)) + 1) if len(order) else []


def _nothing(parts: list[np.ndarray], pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """No part done [parts], no value known [pairs, 2]."""
    return np.zeros(len(parts), np.int64), np.zeros((pairs, 2))


def _kept(
    store: Store, place: str, settings: dict[str, Any], parts: list[np.ndarray], pairs: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """What the store has: the whole, or parts of a pass that was ended."""
    done, values = _nothing(parts, pairs)
    try:
        artifact = store.find(STEP, step_key(STEP, VERSION, settings, {}))
        if artifact is not None:
            values = np.load(artifact.path / FILE, allow_pickle=False)
            progress.note(f"reference log-probabilities of {pairs} pairs found in the store")
            return np.ones(len(parts), np.int64), values
    except ArtifactError as error:
        progress.note(f"{error}: the reference is computed again")
        return done, values
    names = set(store.shelf(place))
    for number, indices in enumerate(parts):
        text = store.shelved(place, _name(number)) if _name(number) in names else None
        found = _values(text or "")
        if found is not None:
            done[number], values[indices] = 1, found
    return done, values


def _publish(store: Store, settings: dict[str, Any], values: np.ndarray) -> None:
    """The whole as an artifact; the parts at its place go with that."""
    with store.writing() as staging:
        np.save(staging / FILE, values, allow_pickle=False)
        figures = {
            "pairs": float(len(values)),
            "chosen": float(values[:, 0].mean()),
            "rejected": float(values[:, 1].mean()),
        }
        store.publish(staging, STEP, VERSION, settings, {}, figures=figures)


def _name(number: int) -> str:
    return f"part-{number:05d}.json"


def _text(values: np.ndarray) -> str:
    """A part as it is kept: a digest, and every number to its last bit."""
    said = json.dumps(values.tolist())
    return f"{hashlib.sha256(said.encode()).hexdigest()}\n{said}"


def _values(text: str) -> np.ndarray | None:
    """What `_text` wrote; None for a text that is anything else."""
    digest, _, said = text.partition("\n")
    return np.array(json.loads(said)) if hashlib.sha256(said.encode()).hexdigest() == digest else None


def _pass(
    model: Any, sizes: np.ndarray, indices: np.ndarray, forward: Forward, job: Job, padded: bool
) -> "torch.Tensor":
    """[len(indices), 2] float64: this process's share of a part, zeros elsewhere.

    All processes do the same number of forwards, which ZeRO-3 needs.
    """
    import torch

    device = "cuda" if models.on_gpu() else "cpu"
    steps = batches.whole(sizes, ranks.processes(), job.section.device_tokens, padded)
    found = torch.zeros(len(indices), 2, dtype=torch.float64, device=device)
    for places in steps.at(0, ranks.rank()):
        if len(places):
            found[torch.from_numpy(places).to(device)] = forward(model, indices[places]).double()
        else:
            forward(model, indices[steps.spare(0)])
    return found


@contextmanager
def _computing(model: Any, job: Job) -> Iterator[Any]:
    """The model on its device, without adapter, dropout and gradients, in the numbers of the training."""
    import contextlib

    import torch
    from peft import PeftModel

    computed = models.dtypes(job.recipe, job.section)[1]
    mixed = torch.autocast("cuda", getattr(torch, computed)) if computed != "float32" else contextlib.nullcontext()
    plain = model.disable_adapter() if isinstance(model, PeftModel) else contextlib.nullcontext()
    training = model.training
    with _placed(model) as network, mixed, plain, torch.no_grad():
        model.eval()
        yield network
    model.train(training)


@contextmanager
def _placed(model: Any) -> Iterator[Any]:
    """On this process's device. What ZeRO-3 has cut up needs an engine until the trainer makes its own."""
    if not any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        if models.on_gpu() and not getattr(model, "is_quantized", False):
            model.to("cuda")
        yield model
        return
    import deepspeed
    from transformers.integrations.deepspeed import deepspeed_config

    options = deepspeed_config()
    zero = {name: value for name, value in options["zero_optimization"].items() if name in ("stage", "offload_param")}
    kept = {name: options[name] for name in ("bf16", "fp16") if options.get(name, {}).get("enabled") is True}
    engine, *_ = deepspeed.initialize(
        model=model, config={"zero_optimization": zero, "train_micro_batch_size_per_gpu": 1, **kept}
    )
    try:
        yield engine
    finally:
        engine.destroy()
