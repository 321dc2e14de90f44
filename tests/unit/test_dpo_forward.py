"""DPO's forward: flat rows with shared prompts against a plain loop over sequences, and no text sees another."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from zephyr.train.forward import attention, pairs

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODELS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "mistral, grouped heads, wide window": {"sliding_window": 128, "num_key_value_heads": 1},
    "llama": {"num_key_value_heads": 4},
    "llama, SmolLM's shape": {"tie_word_embeddings": True, "num_attention_heads": 3, "head_dim": 10, "hidden_size": 30}
    | {"num_key_value_heads": 1},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma": {"head_dim": 16, "num_key_value_heads": 1},
    "gemma3_text": {"head_dim": 16, "sliding_window": 128, "query_pre_attn_scalar": 16, "num_hidden_layers": 7},
    "olmo2": {},
    "phi3": {},
    "smollm3": {"num_hidden_layers": 4},
}
"""Of each architecture in `attention.SHARED` at least one."""
LENGTHS = ((7, 5, 9), (1, 1, 1), (64, 1, 3), (13, 21, 1), (2, 30, 31), (33, 8, 8))
"""Prompt, chosen, rejected: odd ones, completions of one token, a long prompt, one of a single token."""


def network(name: str, seed: int = 0) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(name.split(",")[0], **(SHAPE | MODELS[name]))
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def made(lengths: Sequence[Sequence[int]] = LENGTHS, seed: int = 0) -> list[pairs.Pair]:
    draw = np.random.default_rng(seed)
    texts = [[draw.integers(3, 96, n).astype(np.int32) for n in row] for row in lengths]
    return [(prompt, prompt, chosen, rejected) for prompt, chosen, rejected in texts]


def flat(model: Any) -> pairs.Flat:
    layout = pairs.Flat()
    layout.prepare(model)
    return layout


def looped(model: Any, rows: Sequence[pairs.Pair]) -> Iterator[torch.Tensor]:
    """Log-probabilities of each completion's tokens, chosen ones first: a sequence at a time, no mask, whole logits."""
    for side in (0, 1):
        for row in rows:
            prompt, completion = row[side], row[2 + side]
            ids = torch.from_numpy(np.concatenate((prompt, completion)).astype(np.int64))
            logits = model(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]
            yield logits.log_softmax(-1).gather(1, ids[len(prompt) :, None])[:, 0]


def gradient(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def agree(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """5e-4 of the whole gradient's length, 1e-3 of each tensor's; one that is nothing but rounding is left out."""
    assert found.keys() == wanted.keys()
    whole = sum(float(g.norm()) ** 2 for g in wanted.values()) ** 0.5
    off = {name: float((found[name] - g).norm()) for name, g in wanted.items()}
    assert sum(value**2 for value in off.values()) ** 0.5 < 5e-4 * whole
    for name, g in wanted.items():
        assert off[name] < 1e-3 * float(g.norm()) + 1e-7 * whole, name


def scored(logps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Some loss of the sequences' sums that weighs each otherwise."""
    sums = torch.stack([one.sum() for one in logps])
    return torch.nn.functional.softplus(sums * torch.linspace(-0.1, 0.1, len(sums))).sum()


@pytest.mark.parametrize("name", MODELS)
def test_flat_rows_give_what_a_loop_over_sequences_gives(name: str) -> None:
    model, other = network(name), network(name)
    rows = made()
    assert attention.fits(model.config, 67) is None
    wanted = list(looped(model, rows))
    layout = flat(other)
    batch = layout.batch(rows)
    assert batch["input_ids"].shape[1] == sum(map(sum, LENGTHS))  # every prompt once, no padding
    found = layout.outputs(other, batch).log_probs
    assert found.shape == (12, 31)
    for one, row in zip(wanted, found, strict=True):
        assert row.sum().item() == pytest.approx(one.sum().item(), rel=1e-5)
        assert torch.allclose(row[: len(one)], one, rtol=1e-5, atol=1e-5)
        assert not row[len(one) :].any()
    agree(gradient(other, scored(list(found))), gradient(model, scored(wanted)))


def test_every_architecture_that_shares_is_tested() -> None:
    assert {name.split(",")[0] for name in MODELS} == set(attention.SHARED)


def test_completions_with_prompts_of_their_own_share_nothing() -> None:
    """As truncation at the prompt's beginning leaves them."""
    model, other = network("mistral"), network("mistral")
    rows = [(prompt, prompt[:5], chosen, rejected) for prompt, _, chosen, rejected in made([(9, 4, 3), (7, 2, 6)])]
    rows.append(made([(6, 5, 5)])[0])
    layout = flat(other)
    batch = layout.batch(rows)
    assert batch["input_ids"].shape[1] == (9 + 4 + 5 + 3) + (7 + 2 + 5 + 6) + 16
    found = layout.outputs(other, batch).log_probs
    for one, row in zip(looped(model, rows), found, strict=True):
        assert torch.allclose(row[: len(one)], one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changed", ["another rejected", "another pair", "a longer rejected"])
def test_no_text_sees_another(changed: str) -> None:
    model = network("mistral")
    layout = flat(model)
    rows = made()
    before = layout.outputs(model, layout.batch(rows)).log_probs
    draw = np.random.default_rng(9)
    if changed == "another rejected":
        rows[4] = (*rows[4][:3], draw.integers(3, 96, 31).astype(np.int32))
        same = [i for i in range(12) if i != 6 + 4]
    elif changed == "another pair":
        rows[4] = made([LENGTHS[4]], seed=5)[0]
        same = [i for i in range(12) if i not in (4, 6 + 4)]
    else:
        rows[4] = (*rows[4][:3], draw.integers(3, 96, 40).astype(np.int32))
        same = [i for i in range(12) if i != 6 + 4]
    after = layout.outputs(model, layout.batch(rows)).log_probs
    changes = [i for i in range(12) if not torch.equal(before[i], after[i, : before.shape[1]])]
    if changed == "a longer rejected":  # the matrices have other shapes, so sums another order
        assert torch.allclose(before[same], after[same, :31], rtol=1e-6, atol=1e-6)
    else:
        assert changes == [i for i in range(12) if i not in same]  # bit for bit


@pytest.mark.parametrize("name", ["mistral", "gemma3_text"])
def test_padded_rows_give_the_same(name: str) -> None:
    """The layout of models that can't share: TRL's own forward."""
    model, other = network(name), network(name)
    rows = made()
    layout = pairs.Padded(pad=0)
    layout.prepare(other)
    found = layout.outputs(other, layout.batch(rows)).log_probs
    wanted = list(looped(model, rows))
    for one, row, (prompt, _, _, _) in zip(wanted, found, [*rows, *rows], strict=True):
        start = len(prompt) - 1
        assert torch.allclose(row[start : start + len(one)], one, rtol=1e-5, atol=1e-5)
        assert row.sum().item() == pytest.approx(one.sum().item(), rel=1e-5)
    agree(gradient(other, scored(list(found))), gradient(model, scored(wanted)))


def test_checkpointed_activations_change_nothing() -> None:
    model, other = network("mistral"), network("mistral")
    other.activation_checkpointing_enable()
    rows = made()
    grads = []
    for one in (model, other.train()):
        layout = flat(one)
        grads.append(gradient(one, scored(list(layout.outputs(one, layout.batch(rows)).log_probs))))
    agree(*grads)


@pytest.mark.parametrize(
    ("name", "settings", "longest", "word"),
    [
        ("mistral", {"sliding_window": 64}, 65, "window of 64 tokens is shorter than the longest text of 65"),
        ("gemma2", {}, 10, "gemma2"),
        ("gpt2", {}, 10, "gpt2"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, 10, "caps its logits"),
    ],
)
def test_what_can_not_share_says_why(name: str, settings: dict[str, Any], longest: int, word: str) -> None:
    from transformers import AutoConfig

    reason = attention.fits(AutoConfig.for_model(name, **settings), longest)
    assert reason and word in reason


def test_a_window_as_long_as_the_longest_text_is_none() -> None:
    from transformers import MistralConfig

    assert attention.fits(MistralConfig(sliding_window=64), 64) is None


def test_without_segments_the_attention_refuses() -> None:
    """Silence would be wrong: it knows no padding and no cache."""
    model = network("mistral")
    flat(model)
    with pytest.raises(ValueError, match="sdpa"):
        model(input_ids=torch.ones(1, 4, dtype=torch.long))


@pytest.mark.gpu
def test_variable_length_kernels_give_what_single_calls_give() -> None:
    torch.manual_seed(0)
    layout = attention.segments([40, 7, 129], [12, 7, 100], [5, 1, 77])
    segments = {name: v.cuda() if isinstance(v, torch.Tensor) else v for name, v in layout.items()}
    total = 40 + 7 + 129 + 5 + 1 + 77
    wide = [torch.randn(1, heads, total, 64, device="cuda", requires_grad=True) for heads in (8, 2, 2)]
    half = [one.detach().bfloat16().requires_grad_() for one in wide]
    wanted, _ = attention.attend(None, wide[0], wide[1], wide[2], None, segments=segments)
    found, _ = attention.attend(None, half[0], half[1], half[2], None, segments=segments)
    weight = torch.randn_like(wanted)
    (wanted * weight).sum().backward()
    (found.float() * weight).sum().backward()
    for a, b in zip((wanted, *(one.grad for one in wide)), (found, *(one.grad for one in half)), strict=True):
        assert a is not None and b is not None
        assert float((a - b.float()).norm() / a.norm()) < 2e-2
