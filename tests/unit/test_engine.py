"""The engine: the tokens of model.generate, alone and in any company."""

from pathlib import Path

import pytest

from tests.helpers import tiny_model
from zephyr.data import template
from zephyr.engine import Engine, Sequence
from zephyr.errors import ModelError

TEXTS = (
    "hello there",
    "one two three four five one two three four five one two three",
    "the cat",
    "5 4 3",
    "on the mat",
)
SHAPES = {
    "plain": {},
    "grouped": {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
    "window": {"sliding_window": 7},
}


@pytest.fixture(scope="module", params=SHAPES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(tiny_model(tmp_path_factory.mktemp(request.param), 1, **SHAPES[request.param]), 4)


def prompts(engine: Engine) -> list[list[int]]:
    return [template.encode_prompt(engine.tokenizer, [{"role": "user", "content": text}]) for text in TEXTS]


def reference(engine: Engine, prompt: list[int], count: int) -> list[int]:
    """What transformers' own generate says, without the end."""
    import torch

    ids = torch.tensor([prompt])
    options = {"max_new_tokens": count, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    said: list[int] = engine.model.generate(ids, **options)[0, len(prompt) :].tolist()
    end = engine.tokenizer.eos_token_id
    return said[: said.index(end)] if end in said else said


def finish(engine: Engine) -> None:
    while engine.running or engine.waiting:
        engine.step()


def test_greedy_tokens_are_those_of_generate(engine: Engine) -> None:
    wanted = [reference(engine, prompt, 30) for prompt in prompts(engine)]
    alone = []
    for prompt in prompts(engine):
        engine.add(sequence := Sequence(prompt, 30))
        finish(engine)
        alone.append(sequence.tokens)
    together = [Sequence(prompt, 30) for prompt in prompts(engine)]  # five for four rows: one has to wait
    for sequence in together:
        engine.add(sequence)
    finish(engine)
    joining = [Sequence(prompt, 30) for prompt in prompts(engine)]
    for sequence in joining:  # into the middle of others' answers
        engine.add(sequence)
        for _ in range(3):
            engine.step()
    finish(engine)
    assert wanted == alone == [s.tokens for s in together] == [s.tokens for s in joining]
    assert len({tuple(tokens) for tokens in wanted}) > 1


def test_a_sampled_answer_depends_on_its_seed_alone(engine: Engine) -> None:
    def sampled(texts: list[list[int]], seed: int) -> list[list[int]]:
        made = [Sequence(prompt, 20, 1.0, top_p=0.8, seed=seed) for prompt in texts]
        for sequence in made:
            engine.add(sequence)
        finish(engine)
        return [sequence.tokens for sequence in made]

    together = sampled(prompts(engine), 5)
    assert together == [sampled([prompt], 5)[0] for prompt in prompts(engine)]
    assert together != sampled(prompts(engine), 6)


def test_a_cancelled_sequence_leaves_the_others_alone(engine: Engine) -> None:
    first, second, third = (Sequence(prompt, 25) for prompt in prompts(engine)[:3])
    for sequence in (first, second, third):
        engine.add(sequence)
    engine.step()
    engine.step()
    first.cancelled = True
    said = len(first.tokens)
    finish(engine)
    assert (first.finish_reason, len(first.tokens)) == ("cancelled", said)
    for sequence, prompt in ((second, prompts(engine)[1]), (third, prompts(engine)[2])):
        assert sequence.tokens == reference(engine, prompt, 25)


def test_an_answer_ends_with_the_context(engine: Engine) -> None:
    prompt = [5] * (engine.context - 3)
    engine.add(sequence := Sequence(prompt, 50))
    finish(engine)
    assert sequence.finish_reason == "stop" or len(sequence.tokens) == 3


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    import torch

    from zephyr.engine import choose

    # 0.5, 0.3, 0.2: top_p 0.6 needs the first two, 0.5 the first alone.
    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()

    def seen(top_p: float) -> set[int]:
        return {choose(logits, [Sequence([1], 1, 1.0, top_p=top_p, seed=seed)])[0] for seed in range(200)}

    assert (seen(1.0), seen(0.6), seen(0.5)) == ({0, 1, 2}, {1, 2}, {1})


def test_sampling_follows_the_probabilities() -> None:
    import torch

    from zephyr.engine import choose

    logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
    drawn = [choose(logits, [Sequence([1], 1, 1.0, seed=seed)])[0] for seed in range(3000)]
    # Standard error of a share of 3000: at most 0.0092; five of them.
    assert drawn.count(1) / 3000 == pytest.approx(0.5, abs=0.046)
    assert drawn.count(0) / 3000 == pytest.approx(0.2, abs=0.046)
    hot = [choose(logits, [Sequence([1], 1, 0.5, seed=seed)])[0] for seed in range(3000)]
    # Temperature 0.5 squares the odds: 0.25 / (0.25 + 0.09 + 0.04).
    assert hot.count(1) / 3000 == pytest.approx(0.658, abs=0.046)


def test_logprobs_are_those_of_the_logits(engine: Engine) -> None:
    import torch

    prompt = prompts(engine)[0]
    engine.add(sequence := Sequence(prompt, 4, top_logprobs=2))
    finish(engine)
    ids = torch.tensor([[*prompt, *sequence.tokens]])
    with torch.no_grad():
        logs = engine.model(ids).logits[0].log_softmax(-1)
    for place, found in enumerate(sequence.logprobs):
        row = logs[len(prompt) - 1 + place]
        assert found.logprob == pytest.approx(float(row[found.token]), abs=1e-4)
        assert [token for token, _ in found.top] == row.topk(2).indices.tolist()


def test_mixed_attention_is_refused(tmp_path: Path) -> None:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    folder = tiny_model(tmp_path / "m")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2}
    config = Gemma3TextConfig(vocab_size=300, head_dim=8, num_key_value_heads=2, **shape)
    Gemma3ForCausalLM(config).save_pretrained(folder)  # five layers look back 4096 tokens, one looks back to the start
    with pytest.raises(ModelError, match="mixes kinds of attention; serve it with vLLM"):
        Engine.load(folder, 2)


def test_prompts_are_read_in_any_company(engine: Engine) -> None:
    """Log-probabilities of a prompt's tokens are those of one forward over it alone; its end has one, too."""
    import torch

    asked = prompts(engine)
    together = [
        Sequence(prompt, 200, 2.0, seed=n, top_logprobs=1, prompt_logprobs=[] if n % 4 else None)
        for n, prompt in enumerate(asked * 3)
    ]
    for sequence in together:
        engine.add(sequence)
    finish(engine)
    for number, (prompt, sequence) in enumerate(zip(asked * 3, together, strict=True)):
        if sequence.prompt_logprobs is None:
            assert len(sequence.logprobs) == len(sequence.tokens)
            continue
        with torch.inference_mode():
            logs = engine.model(torch.tensor([prompt])).logits[0].log_softmax(-1)
        wanted = [float(logs[place, token]) for place, token in enumerate(prompt[1:])]
        assert [found.logprob for found in sequence.prompt_logprobs] == pytest.approx(wanted, abs=1e-4), number
        assert [found.token for found in sequence.prompt_logprobs] == prompt[1:]
        best = [int(row.argmax()) for row in logs[:-1]]
        assert [found.top[0][0] for found in sequence.prompt_logprobs] == best
        assert len(sequence.logprobs) == len(sequence.tokens) + (sequence.finish_reason == "stop")
    assert any(sequence.finish_reason == "stop" for sequence in together if sequence.prompt_logprobs)
