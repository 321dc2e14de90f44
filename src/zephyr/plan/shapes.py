"""A model's shape, read from its config.json by hand: a laptop that submits needs no torch for it.

Parameters are counted as transformers' own classes have them; a test compares every family on the meta device.
"""

import json
import math
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.data.locations import local
from zephyr.errors import DataError, ModelError


@dataclass(frozen=True)
class Family:
    """What a model type's layers have beside seven projections and two norms."""

    qkv_bias: bool = False
    """Biases of q, k and v, always."""
    biases: tuple[str, ...] = ("attention_bias",)
    """Settings of config.json that bring biases."""
    qk_norm: bool = False
    norms: int = 2
    tied: bool = False
    """Whether the head is the embedding where config.json doesn't say."""
    head_dim: int | None = None
    """Where config.json doesn't say; None: the hidden width over the heads."""


FAMILIES = {
    "llama": Family(biases=("attention_bias", "mlp_bias")),
    "mistral": Family(biases=()),
    "smollm3": Family(biases=("attention_bias", "mlp_bias"), tied=True),
    "qwen2": Family(qkv_bias=True, biases=()),
    "qwen3": Family(qk_norm=True, head_dim=128),
    "gemma": Family(tied=True, head_dim=256),
    "gemma2": Family(norms=4, tied=True, head_dim=256),
    "gemma3_text": Family(norms=4, qk_norm=True, tied=True, head_dim=256),
}


NEEDED = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "vocab_size")
"""Of a config.json."""


@dataclass(frozen=True)
class Shape:
    """Of a decoder with gated MLPs; widths in elements."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    tied: bool
    bias: int
    """Elements of all biases of a layer."""
    norms: int
    """RMS norms of a layer over the hidden width."""
    qk_norm: bool
    flat: float
    """Tokens of the longest text that rows without padding can hold (train/forward/attention.py's `fits`)."""

    @property
    def query(self) -> int:
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """A layer's linear maps: name to width in and out."""
        return {
            "q_proj": (self.hidden, self.query),
            "k_proj": (self.hidden, self.key),
            "v_proj": (self.hidden, self.key),
            "o_proj": (self.query, self.hidden),
            "gate_proj": (self.hidden, self.mlp),
            "up_proj": (self.hidden, self.mlp),
            "down_proj": (self.mlp, self.hidden),
        }

    @property
    def linear(self) -> int:
        """Parameters of a layer's projections, without biases."""
        return sum(into * out for into, out in self.projections.values())

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        return self.linear + self.bias + self.norms * self.hidden + (2 * self.head_dim if self.qk_norm else 0)

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def largest(self) -> int:
        """Parameters of the largest single module: what ZeRO-3 gathers at least."""
        return max(self.embedding, self.hidden * self.mlp)

    def adapters(self, r: int, modules: tuple[str, ...]) -> int:
        """Parameters of LoRA adapters of rank r at these projections.

        Raises ModelError where a name is none of them.
        """
        unknown = [name for name in modules if name not in self.projections]
        if unknown:
            raise ModelError(f"lora.target_modules: {self.name} has no {', '.join(unknown)}")
        return self.layers * sum(r * sum(self.projections[name]) for name in modules)


def shape_of(location: str, cache: Path) -> Shape:
    """The shape of the model at a location; of one on the hub or in a bucket only config.json is fetched.

    Raises DataError, StoreError or ModelError in one line: nothing there, no network, an unknown kind of model.
    """
    if location.startswith("hf://"):
        text = _on_hub(location)
    else:
        path = local(f"{location.rstrip('/')}/config.json" if location.startswith("s3://") else location, cache)
        path = path / "config.json" if path.is_dir() else path
        if not path.is_file():
            raise ModelError(f"{location}: no config.json there; name a folder with a model")
        text = path.read_text()
    try:
        config = json.loads(text)
    except json.JSONDecodeError:
        raise ModelError(f"{location}: config.json is no JSON; save the model anew") from None
    if not isinstance(config, dict):
        raise ModelError(f"{location}: config.json is no JSON object; save the model anew")
    return read(config, location)


def _on_hub(location: str) -> str:
    """A model's config.json, from the hub's own cache or asked for once: its client tries for half a minute."""
    found = re.fullmatch(r"hf://([^/@]+/[^/@]+)@([^/]+)", location)
    if found is None:
        raise DataError(f"{location}: write it as hf://org/name@revision")
    try:
        from huggingface_hub import get_token, hf_hub_url, try_to_load_from_cache
    except ModuleNotFoundError:
        raise DataError(f"{location}: huggingface-hub is missing; pip install 'zephyr-mlops[hub]'") from None

    kept = try_to_load_from_cache(found[1], "config.json", revision=found[2])
    if isinstance(kept, str):
        return Path(kept).read_text()
    url = hf_hub_url(found[1], "config.json", revision=found[2], endpoint=os.environ.get("HF_ENDPOINT"))
    token = get_token()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.build_opener(_OneHost).open(request, timeout=20) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            why = f"{error.code} {error.reason}"
    except OSError as error:
        why = str(error.reason if isinstance(error, urllib.error.URLError) else error)
    raise DataError(
        f"{location}: config.json can't be fetched ({why}); check name, revision, HF_TOKEN, network, or "
        "name a folder with its config.json: --set model.base=FOLDER"
    )


class _OneHost(urllib.request.HTTPRedirectHandler):
    """Another host than the one that was asked doesn't get the token."""

    def redirect_request(self, req: urllib.request.Request, *args: Any) -> urllib.request.Request | None:
        found = super().redirect_request(req, *args)
        if found is not None and found.host != req.host:
            found.remove_header("Authorization")
        return found


def read(config: Mapping[str, Any], name: str) -> Shape:
    """The shape that a config.json describes."""
    kind = config.get("model_type")
    family = FAMILIES.get(str(kind))
    if family is None:
        raise ModelError(f"{name}: no memory model of {kind} (of {', '.join(FAMILIES)} there is one)")
    wrong = [key for key in NEEDED if not isinstance(config.get(key), int) or config[key] < 1]
    if wrong:
        raise ModelError(
            f"{name}: config.json lacks {', '.join(wrong)}: write the numbers there, which the plan needs "
            "even where they are the model type's defaults"
        )
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or family.head_dim or hidden // heads
    biased = {name for name in family.biases if config.get(name)}
    bias = (heads + 2 * kv_heads) * head_dim if family.qkv_bias or "attention_bias" in biased else 0
    bias += hidden if "attention_bias" in biased else 0
    bias += 2 * config["intermediate_size"] + hidden if "mlp_bias" in biased else 0
    return Shape(
        name=name,
        hidden=hidden,
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        bias=bias,
        norms=family.norms,
        qk_norm=family.qk_norm,
        flat=0 if kind == "gemma2" else config.get("sliding_window") or math.inf,
    )
