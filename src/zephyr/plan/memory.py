"""Peak memory of a training on one device, by part: a function of the model's shape and the settings alone.

Weights, gradients and optimizer are counted as DeepSpeed's own estimators do (runtime/zero/stage_1_and_2.py and
stage3.py: 18 bytes a parameter over the processes, and what is not cut up); a test compares the two. Without DeepSpeed
they are what train/model.py and torch hold. Activations are what torch's autograd keeps of transformers' layers,
summed tensor by tensor (`kept`); a test measures them.
"""

from dataclasses import dataclass
from typing import NamedTuple

from zephyr.devices import GIB, Gpu
from zephyr.plan.shapes import Shape
from zephyr.sections.training import Lora

KEPT, CHUNK, CHUNK_CPU = 2**29, 2**25, 2**20
"""Of train/forward/head.py: bytes of probabilities that are kept, and logits that are in memory at a time."""
BUCKET, LIVE, GROUP = 5e8, 1e9, 1e9
"""DeepSpeed's defaults, in elements: of each of ZeRO-2's two float32 buckets of gradients, of the weights that ZeRO-3
holds gathered, of the gradients that it copies for the optimizer at a time."""
HOST = 1.5
"""What DeepSpeed's estimators allow for buffers of what is offloaded, as a factor."""
CONTEXT, NCCL = 0.6 * GIB, 0.8 * GIB
"""Of CUDA with its libraries' workspaces, and of the communication of several GPUs."""
SPARE = 0.05
"""Of a GPU's memory, lost between blocks."""
PROCESS = 0.9 * GIB
"""Of a process on a CPU: interpreter, torch, transformers, the tables that it reads."""
STATE = {
    "adamw_torch": 8.0,
    "adamw_torch_fused": 8.0,
    "paged_adamw_32bit": 8.0,
    "adamw_bnb_8bit": 2.06,
    "paged_adamw_8bit": 2.06,
    "rmsprop": 4.0,
}
"""Bytes of optimizer state for each trained float32 parameter; in 8 bits with a float32 scale for each 256 values."""
FOR_EACH = ("adamw_torch", "rmsprop")
"""Optimizers whose step on a GPU makes one more array as large as all weights (torch's foreach)."""
FOUR_BIT = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in nf4 with double quantization: blocks of 64, their scales in 8 bits and blocks of 256."""


@dataclass(frozen=True)
class Setup:
    """What a training's memory depends on beside the model's shape."""

    gpu: Gpu | None
    """None: the CPU, where everything is float32."""
    processes: int
    tokens: int
    """In the largest micro-batch of a device."""
    scored: int
    """Of these, the ones whose logits are computed."""
    accumulates: bool
    """Whether a step has several micro-batches: then gradients are there while activations are."""
    optimizer: str = "adamw_torch"
    lora: Lora | None = None
    dropout: bool = False
    """Of the adapters."""
    four_bit: bool = False
    dtype: str = "bfloat16"
    zero_stage: int = 0
    offload: str = "none"
    checkpointing: bool = False
    longest: float = 0
    """Tokens of a dialogue; where the model can't hold so many without padding, all logits are computed (dSFT)."""
    again: float = 0.0
    """Of all tokens, the share whose keys and values a second completion sees once more (shared prompts)."""

    @property
    def compute(self) -> int:
        """Bytes of an element that matrices are multiplied in."""
        return 4 if self.gpu is None or self.dtype == "float32" else 2

    @property
    def held(self) -> int:
        """Bytes of a weight: float32 where torch's own optimizer changes it (train/model.py's dtypes)."""
        return 4 if self.lora is None and not self.zero_stage else self.compute

    @property
    def mixed(self) -> bool:
        return self.held > self.compute


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, on each device; `host`: in a machine's memory, of all its processes."""

    moment: str
    """Of the peak: backward, step or merge."""
    weights: float
    gradients: float
    optimizer: float
    activations: float
    """Kept for the backward, and what it makes itself where that is more than the head."""
    head: float
    """Logits, probabilities and the gradient of the last matrix, where that is the most."""
    reference: float
    """Of dpo: none, since its log-probabilities come from an artifact that a pass before has made."""
    buffers: float
    host: float = 0.0

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.head + self.buffers


class States(NamedTuple):
    """Bytes of the model's states on a device, and of what is offloaded to each machine's memory."""

    weights: float
    gradients: float
    optimizer: float
    host: float


def memory(shape: Shape, setup: Setup, nodes: int = 1) -> Memory:
    """The largest of three moments: the backward begins, all activations being there; the optimizer makes its step;
    on a CPU, trained adapters are merged, and what was written is read again."""
    weights, gradients, optimizer, host = states(shape, setup, nodes)
    if setup.lora and setup.gpu:  # adapters are merged by the CPU, and what was written is read again
        host = max(host, 2.0 * setup.compute * shape.parameters)
    buffers, activations = _buffers(shape, setup), _activations(shape, setup)
    present = gradients if setup.accumulates or setup.zero_stage == 3 else 0.0
    head, back = _head(shape, setup), _backward(shape, setup)
    if back > head:  # the logits are gone by then
        head, activations = 0.0, activations + back
    copies = 2.0 * trainable(shape, setup.lora) if setup.mixed else 0.0  # autocast's, in bf16
    moments = [
        Memory("backward", weights + copies, present, optimizer, activations, head, 0.0, buffers, host),
        Memory("step", weights, gradients, optimizer + _step(shape, setup), 0.0, 0.0, 0.0, buffers, host),
    ]
    if setup.lora and setup.gpu is None:
        merged = weights + 2 * _frozen(shape, setup)
        moments.append(Memory("merge", merged, 0.0, 0.0, 0.0, 0.0, 0.0, buffers, host))
    return max(moments, key=lambda moment: moment.total)


def trainable(shape: Shape, lora: Lora | None) -> int:
    """Parameters that are trained."""
    return shape.parameters if lora is None else shape.adapters(lora.r, lora.target_modules)


def states(shape: Shape, setup: Setup, nodes: int = 1) -> States:
    """Without DeepSpeed float32 copies of what is trained; with it what its estimators say."""
    total, trained, n = shape.parameters, trainable(shape, setup.lora), setup.processes
    state = STATE[setup.optimizer]
    if not setup.zero_stage:
        frozen = _frozen(shape, setup) if setup.lora else 0.0
        away = paged(shape, setup)
        own = 0.0 if away else state * trained
        return States(frozen + 4.0 * trained, 4.0 * trained, own, away * n / nodes)
    frozen = total if setup.lora else 0
    c = setup.compute
    held = (frozen + trained) * c / (n if setup.zero_stage == 3 else 1)
    # float32 gradients, with ZeRO-2 as they were computed beside them; float32 weights and the optimizer's state
    gradients = (4.0 + (c if setup.zero_stage == 2 else 0)) * trained / n
    optimizer = (4.0 + state) * trained / n
    largest = 2.0 * c * shape.largest if setup.zero_stage == 3 else 0.0  # gathered, and its gradient
    if setup.offload == "none":
        return States(held + largest, gradients, optimizer, 0.0)
    host = (8.0 + state) * trained / nodes * HOST
    if setup.offload == "all":
        return States(largest, 0.0, 0.0, host + c * (frozen + trained) / nodes * HOST)
    return States(held + largest, 0.0, 0.0, host)


def paged(shape: Shape, setup: Setup) -> float:
    """Bytes of optimizer state that a process leaves to the machine's memory where its GPU is full."""
    pages = setup.gpu is not None and setup.optimizer.startswith("paged")
    return STATE[setup.optimizer] * trainable(shape, setup.lora) if pages else 0.0


def _frozen(shape: Shape, setup: Setup) -> float:
    """Bytes of a base under adapters: its projections in 4 bits or not, the rest as it was loaded."""
    linear = shape.layers * shape.linear
    each = FOUR_BIT if setup.four_bit else setup.held
    return linear * each + (shape.parameters - linear) * setup.held


def kept(shape: Shape, setup: Setup) -> float:
    """Bytes that autograd keeps of one token in one layer.

    s: bytes of what matrices are multiplied in. An RMS norm keeps its input in float32, the normed one and, for the
    projections, its result; without gradients of its own weights only the first. Attention keeps queries, keys,
    values, its result and the sums, and the result once more where segments are put together; a gated MLP both
    projections, the activation and the product.
    """
    s, r = setup.compute, 4 if setup.mixed else setup.compute  # r: of the residual stream
    h, mlp = shape.hidden, shape.mlp
    norms = shape.norms * (4 + (0 if setup.lora else r)) * h
    if shape.qk_norm:
        norms += (4 + (0 if setup.lora else s)) * (shape.query + shape.key)
    attention = s * (3 * shape.query + (2 + 2 * setup.again) * shape.key) + 4 * shape.heads
    if setup.lora is None:
        # their inputs: one for q, k and v, one for gate and up; in mixed precision each makes its own copy
        inputs = (5 if setup.mixed else 2) * s * h + (s * mlp)
        return norms + attention + inputs + 3 * s * mlp
    return norms + attention + 3 * s * mlp + _adapters(shape, setup, setup.lora)


def _adapters(shape: Shape, setup: Setup, lora: Lora) -> float:
    """Bytes that adapters keep of one token: their inputs, dropped out of or cast each for itself."""
    s = setup.compute
    found = 0.0
    shared: set[tuple[str, int]] = set()
    for name in lora.target_modules:
        into = shape.projections[name][0]
        source = {"q_proj": "attention", "k_proj": "attention", "v_proj": "attention"}.get(name, "mlp"), into
        found += s * lora.r
        if setup.dropout:
            found += (s + (4 if setup.gpu is None else 1)) * into  # the dropped one, and the mask
        elif setup.compute == 2:
            found += s * into  # adapters are float32: cast there and back
        elif name not in ("o_proj", "down_proj") and source not in shared:
            shared.add(source)
            found += s * into
        elif name == "down_proj":
            found += s * into
    return found


def _activations(shape: Shape, setup: Setup) -> float:
    """Of all layers, or with checkpointing their inputs, and of what follows the last one."""
    r = 4 if setup.mixed else setup.compute
    layer = r * shape.hidden if setup.checkpointing else kept(shape, setup)
    last = (4 + 2 * r) * shape.hidden * setup.tokens + 2 * r * shape.hidden * setup.scored
    return shape.layers * layer * setup.tokens + last


def _head(shape: Shape, setup: Setup) -> float:
    """As train/forward/head.py: a chunk's logits and probabilities in float32, what others keep, the gradient.

    A frozen head keeps none and makes no gradient of its weights, but one of the states in the forward already.
    """
    logits = float(setup.scored * shape.vocabulary)
    if setup.longest > shape.flat:  # all in one, their gradient, and the scored ones in float32 three times
        every = 2.0 * setup.compute * setup.tokens * shape.vocabulary
        return every + 12 * logits + (0.0 if setup.lora else 1.0 * setup.held * shape.embedding)
    chunk = min(logits, CHUNK if setup.gpu else CHUNK_CPU)
    working = (8 + (setup.compute if setup.mixed or setup.compute == 2 else 0)) * chunk
    if setup.lora:
        return working + setup.compute * shape.hidden * setup.scored
    gradient = 4.0 * shape.embedding + (2.0 * shape.embedding if setup.held == 2 else 0.0)
    return working + min(setup.compute * logits, KEPT) + gradient


def _backward(shape: Shape, setup: Setup) -> float:
    """Gradients of one MLP: of its product, both factors, what the gate was made of, its input; and of a matrix of it
    that is about to be added to the others."""
    back = 1.0 * setup.compute * (4 * shape.mlp + 3 * shape.hidden) * setup.tokens
    if setup.checkpointing:
        back += kept(shape, setup) * setup.tokens  # a layer's activations, computed anew
    return back + (0.0 if setup.lora else setup.held * shape.hidden * shape.mlp)


def _step(shape: Shape, setup: Setup) -> float:
    """What the optimizer's step makes beside its state."""
    trained = trainable(shape, setup.lora)
    if setup.zero_stage:
        own = trained / setup.processes if setup.offload == "none" else 0.0
        return 4.0 * min(own, GROUP) if setup.zero_stage == 3 else 0.0
    return 4.0 * trained if setup.gpu and setup.optimizer in FOR_EACH else 8.0 * min(trained, shape.largest)


def _buffers(shape: Shape, setup: Setup) -> float:
    if setup.gpu is None:
        return PROCESS
    found = CONTEXT + (NCCL if setup.processes > 1 else 0.0)
    trained = trainable(shape, setup.lora)
    if setup.zero_stage == 2:
        found += 2 * 4 * BUCKET
    elif setup.zero_stage == 3:
        found += setup.compute * min(LIVE, shape.parameters)
    elif setup.processes > 1:
        found += 4.0 * trained  # DistributedDataParallel's buckets
    if setup.four_bit:
        found += 2.0 * shape.hidden * shape.mlp  # one matrix of 4-bit weights, multiplied in bf16
    return found
