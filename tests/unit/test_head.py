"""The head on scored positions: the same numbers and gradients as the whole logits, whatever the chunk."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import tiny_model
from zephyr.train.forward import head

AT, TARGETS = torch.tensor([1, 2, 5, 9, 12]), torch.tensor([7, 0, 3, 299, 3])


def model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model(folder, tie_word_embeddings=False))


@pytest.mark.parametrize(("chunk", "kept"), [(1, 0), (2, 3), (4, 4), (5, 100), (100, 100)])
@pytest.mark.parametrize("frozen", [False, True])
def test_scored_positions_give_the_whole_logits_numbers(
    chunk: int, kept: int, frozen: bool, tmp_path: Path, monkeypatch: Any
) -> None:
    whole, scored = model(tmp_path), model(tmp_path)
    head.install(scored)
    for one in (whole, scored):
        one.lm_head.weight.requires_grad_(not frozen)
    ids = torch.arange(20).reshape(2, 10)  # position 12 of the flattened row is the second row's third
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.0])
    expected = whole(ids).logits.log_softmax(-1).flatten(0, 1)[AT, TARGETS]
    monkeypatch.setitem(head.CHUNK, "cpu", chunk * scored.config.vocab_size)
    monkeypatch.setattr(head, "KEPT", kept * scored.config.vocab_size * 4)  # bytes of `kept` positions
    found = scored(ids, at=AT, targets=TARGETS)
    torch.testing.assert_close(found, expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    for (name, a), (_, b) in zip(whole.named_parameters(), scored.named_parameters(), strict=True):
        if frozen and name == "lm_head.weight":
            assert b.grad is None
            continue
        assert a.grad is not None, name
        torch.testing.assert_close(b.grad, a.grad, msg=name)


@pytest.mark.parametrize("kept", [2**29, 0], ids=["kept", "computed again"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_gradient_of_a_confident_token_is_not_rounded_away(kept: int, frozen: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(head, "KEPT", kept)
    # Logits that bfloat16 holds exactly: the head is the identity, and the target's logit is 9 to 13 above seven zeros,
    # so 1 - p is from 7 exp(-9) / (1 + 7 exp(-9)) = 0.00086 down to 0.000016; of 7 it is 0.0064.
    lead = torch.tensor([7.0, 9.0, 10.0, 11.0, 13.0])
    targets = torch.arange(5)
    states = torch.zeros(5, 8, dtype=torch.bfloat16)
    states[targets, targets] = lead.bfloat16()
    exact = states.double().requires_grad_()
    expected = exact.log_softmax(1)[targets, targets]
    assert ((expected.exp() > 0.99) & (expected.exp() < 1)).all()
    expected.sum().backward()  # type: ignore[no-untyped-call]
    last = torch.nn.Linear(8, 8, bias=False, dtype=torch.bfloat16)
    last.weight = torch.nn.Parameter(torch.eye(8, dtype=torch.bfloat16), requires_grad=not frozen)
    states.requires_grad_()
    head.log_probs(last, states, targets).sum().backward()
    assert exact.grad is not None and states.grad is not None
    apart = (states.grad.double() - exact.grad).norm(dim=1) / exact.grad.norm(dim=1)
    assert apart.max() < 0.01  # two roundings to 8 bits; where p is rounded, it is above 0.3 in every row but the first


def test_without_positions_the_model_answers_as_ever(tmp_path: Path) -> None:
    plain, other = model(tmp_path), model(tmp_path)
    head.install(other)
    ids = torch.arange(10)[None]
    assert torch.equal(plain(ids).logits, other(ids).logits)
    assert len(other.generate(ids, max_new_tokens=2, do_sample=False)[0]) <= 12


def test_no_position_is_no_number(tmp_path: Path) -> None:
    scored = model(tmp_path)
    head.install(scored)
    none = torch.zeros(0, dtype=torch.long)
    scored(torch.arange(10)[None], at=none, targets=none).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in scored.parameters())
