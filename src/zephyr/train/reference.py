"""The reference's log-probabilities: computed once, kept in the store, found by all that trains on the same pairs.

    {store}/reference/{key[:16]}/logps.npy      [pairs, 2], float64, nats: chosen and rejected completion

The key says what decides the numbers: weights, token ids (with them lengths and truncation), their type, the template.
Learning rate, beta, epochs, batches, attention and folders do not, so a sweep pays for the pass once. The pairs are
computed longest first, in parts that are kept in the store until the whole is: a killed pass goes on.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from zephyr.artifacts import Artifact, Store, open_store, step_key
from zephyr.data import template
from zephyr.errors import ArtifactError, ModelError
from zephyr.manifest import REFERENCE
from zephyr.progress import Progress, plural
from zephyr.train import batches, ranks
from zephyr.train import model as models
from zephyr.train.job import Job

if TYPE_CHECKING:
    import torch

    from zephyr.train.rows import Rows

VERSION = 1
FILE = "logps.npy"
PART = 1 << 20
"""Tokens of a part: half a minute of a 7B model on one H100."""
WHOLE = -1

Forward = Callable[[Any, np.ndarray], "torch.Tensor"]
"""Model and indices [b] of pairs to the log-probabilities [b, 2] of their completions."""


def logps(
    job: Job,
    rows: "Rows",
    model: Any,
    forward: Forward,
    progress: Progress,
    padded: bool = False,
    sizes: np.ndarray | None = None,
    part: int = PART,
) -> np.ndarray:
    """[n, 2] float64: log-probability of each pair's chosen and rejected completion under the weights `job.weights`.

    Every process calls it, before the trainer changes `model` or hands it to DeepSpeed; an adapter on it is left out.
    `forward` is called without gradients, with as many pairs as `device_tokens` allows: of `sizes` tokens, by default
    those of the rows (`padded`: filled up to the longest). What the store holds damaged is made again. Raises
    StoreError, and ModelError for weights that give NaN.
    """
    import torch

    assert ranks.processes() == 1 or torch.distributed.is_initialized(), "the trainer's arguments come first"
    if not len(rows):
        return np.zeros((0, 2))
    kept = _Kept(open_store(job.store, job.cache), settings(job, rows), progress)
    parts = _parts(rows.sizes, part)
    done, values = kept.find(parts, len(rows)) if ranks.rank() == 0 else _nothing(parts, len(rows))
    done, values = _sums(done), _sums(values)
    if done[WHOLE]:
        return values
    taken = rows.sizes if sizes is None else sizes
    with _computing(model, job) as network:
        for number in np.flatnonzero(done[:WHOLE] == 0).tolist():
            indices = parts[number]
            values[indices] = _pass(network, taken[indices], indices, forward, job, padded)
            if not np.isfinite(values[indices]).all():
                raise ModelError(f"{job.model}: its log-probabilities aren't finite, so nothing can be trained on it")
            done[number] = 1
            if ranks.rank() == 0 and not done[:WHOLE].all():
                kept.keep(number, values[indices])
            ready = sum(len(indices) for indices, whole in zip(parts, done[:WHOLE], strict=True) if whole)
            progress.advance(ready, len(rows), "reference pairs")
    if ranks.rank() == 0:
        kept.publish(values)
    ranks.wait()
    return values


def settings(job: Job, rows: "Rows") -> dict[str, Any]:
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
    return np.split(order, np.flatnonzero(np.diff(numbers)) + 1)


def _nothing(parts: Sequence[np.ndarray], pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Which parts are there and, last, whether the whole is [parts + 1]; values [pairs, 2]."""
    return np.zeros(len(parts) + 1, np.int64), np.zeros((pairs, 2))


class _Kept:
    """What the store has of it; for one process."""

    def __init__(self, store: Store, settings: Mapping[str, Any], progress: Progress) -> None:
        self._store = store
        self._settings = settings
        self._progress = progress
        self._key = step_key(REFERENCE, VERSION, settings, {})
        self._place = f"{REFERENCE}/{self._key[:16]}"

    def find(self, parts: Sequence[np.ndarray], pairs: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole, or parts of a pass that was ended; what is damaged is left out."""
        done, values = _nothing(parts, pairs)
        try:
            artifact = self._store.find(REFERENCE, self._key)
            if artifact is not None:
                values = np.load(artifact.path / FILE, allow_pickle=False)
                done[WHOLE] = 1
                self._tell(artifact, "found in the store")
                return done, values
        except ArtifactError as error:
            self._progress.note(f"{error}: the reference is computed again")
        names = set(self._store.shelf(self._place))
        for number, indices in enumerate(parts):
            found = _values(self._store.shelved(self._place, _name(number)) or "") if _name(number) in names else None
            if found is not None:
                done[number], values[indices] = 1, found
        return done, values

    def keep(self, number: int, values: np.ndarray) -> None:
        """A part, until the whole is there: a digest, and every number to its last bit."""
        said = json.dumps(values.tolist())
        self._store.shelve(self._place, _name(number), f"{hashlib.sha256(said.encode()).hexdigest()}\n{said}")

    def publish(self, values: np.ndarray) -> None:
        """The whole as an artifact; the parts, which lie at its place, go with that."""
        mean = values.mean(axis=0).tolist()
        figures = {"pairs": float(len(values)), "chosen": mean[0], "rejected": mean[1]}
        with self._store.writing() as staging:
            np.save(staging / FILE, values, allow_pickle=False)
            artifact = self._store.publish(staging, REFERENCE, VERSION, self._settings, {}, figures=figures)
        self._tell(artifact, "computed")

    def _tell(self, artifact: Artifact, how: str) -> None:
        pairs = int(artifact.manifest.figures["pairs"])
        self._progress.event(REFERENCE, uri=artifact.uri, digest=artifact.digest)
        self._progress.note(f"reference log-probabilities of {plural(pairs, 'pair')}: {how}")


def _name(number: int) -> str:
    return f"part-{number:05d}.json"


def _values(text: str) -> np.ndarray | None:
    """What `_Kept.keep` wrote; None for a text that is anything else."""
    digest, _, said = text.partition("\n")
    return np.array(json.loads(said)) if hashlib.sha256(said.encode()).hexdigest() == digest else None


def _pass(model: Any, sizes: np.ndarray, indices: np.ndarray, forward: Forward, job: Job, padded: bool) -> np.ndarray:
    """[len(indices), 2] float64, by all processes together, which do the same number of forwards: ZeRO-3 needs that."""
    steps = batches.whole(sizes, ranks.processes(), job.section.device_tokens, padded)
    found = np.zeros((len(indices), 2))
    for places in steps.at(0, ranks.rank()):
        if len(places):
            found[places] = forward(model, indices[places]).double().cpu().numpy()
        else:
            forward(model, indices[steps.spare(0)])
    return _sums(found)


def _sums(values: np.ndarray) -> np.ndarray:
    """Of all processes."""
    import torch

    total = ranks.sums(torch.from_numpy(values).to("cuda" if models.on_gpu() else "cpu"))
    return np.asarray(total.cpu())


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
