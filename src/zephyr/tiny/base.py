"""The base model of the world: a small Mistral network, trained from scratch on the world's plain text.

`python -m zephyr.tiny.base --out FOLDER` makes it again. It is probed per family before it is accepted.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.errors import ModelError, disk
from zephyr.progress import Progress
from zephyr.tiny import corpus, world
from zephyr.tiny.families import FAMILIES
from zephyr.tiny.grading import grade

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import MistralForCausalLM, PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
README = """# The base model of the embedded world

A Mistral network trained from scratch on plain text of the world (questions with answers, statements of facts;
no prompt of the test split), made by `zephyr tiny base`. base.json holds its settings and, per family, the share
of right answers to test prompts of both turns, as plain text and greedy. It knows no chat format and has no
flaws of style: those come from the dialogues. What made it learn to copy from the prompt: small batches,
`initializer_range` 0.07, and a tenth of the weight for tokens of questions, which are drawn at random.
"""

LEAST = 0.5
"""A base that answers less than this share of any family's turns is refused."""


@dataclass(frozen=True)
class Settings:
    """How the base is made. Small batches and a wide initialization let copying appear early (see README)."""

    seed: int = 0
    vocabulary: int = 1024
    hidden: int = 128
    intermediate: int = 320
    layers: int = 3
    heads: int = 4
    initializer_range: float = 0.07
    positions: int = 512
    steps: int = 9000
    rows: int = 8
    length: int = 72
    learning_rate: float = 3e-3
    warmup: int = 200
    question_weight: float = 0.1  # in the loss: what is drawn at random teaches little and adds noise
    threads: int = 1  # so small a network is no faster on two


def make(out: Path, settings: Settings = Settings(), least: float = LEAST, progress: Progress | None = None) -> None:
    """Train tokenizer and network, probe them, and write both with a manifest into `out`.

    Raises:
        ModelError: a family is answered less often than `least`; the message holds the figures.
    """
    import torch

    progress = progress or Progress()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    started = time.monotonic()
    tokenizer = train_tokenizer(settings)
    model, loss = train_model(settings, tokenizer, progress)
    rates = probe(model, tokenizer, tasks_per_family=40)
    progress.note("probe: " + ", ".join(f"{family} {rate:.2f}" for family, rate in rates.items()))
    if weak := {family: round(rate, 2) for family, rate in rates.items() if rate < least}:
        raise ModelError(f"base model: answers below {least:.2f}: {weak}; train longer or with another seed")
    manifest = {
        "settings": asdict(settings),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "tokens": settings.steps * settings.rows * settings.length,
        "final_loss": round(loss, 4),
        "probe": {family: round(rate, 3) for family, rate in rates.items()},
        "seconds": round(time.monotonic() - started),
    }
    with disk(out):
        out.mkdir(parents=True, exist_ok=True)
        model.to(torch.bfloat16).save_pretrained(out)
        tokenizer.save_pretrained(out)
        for file in out.iterdir():
            file.chmod(0o644)  # safetensors writes for the owner alone
        (out / "base.json").write_text(json.dumps(manifest, indent=2) + "\n")
        (out / "README.md").write_text(README)


def train_tokenizer(settings: Settings) -> "PreTrainedTokenizerFast":
    """A byte-level BPE over the world's text; it adds no special token by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    seed = str(settings.seed)
    texts = [corpus.text(document) for document in islice(corpus.documents(f"tokenizer:{seed}"), 20_000)]
    texts += corpus.chat(2_000, seed)
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=settings.positions,
        clean_up_tokenization_spaces=False,
    )


def _network(settings: Settings, tokenizer: "PreTrainedTokenizerFast") -> "MistralForCausalLM":
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(
        MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden,
            intermediate_size=settings.intermediate,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=settings.positions,
            initializer_range=settings.initializer_range,
            sliding_window=None,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def batches(settings: Settings, tokenizer: "PreTrainedTokenizerFast") -> Iterator[tuple["Tensor", "Tensor"]]:
    """Token ids [rows, length + 1] and what each weighs in the loss [rows, length + 1].

    A row holds whole documents one after another and is padded (weight 0) where the next won't fit.
    """
    import torch

    documents = corpus.documents(str(settings.seed))
    width = settings.length + 1
    ids: list[list[int]] = [[]]
    weights: list[list[float]] = [[]]
    while True:
        for row, weighs in _encoded(list(islice(documents, 256)), settings, tokenizer):
            row, weighs = row[:width], weighs[:width]
            if len(ids[-1]) + len(row) > width:
                weights[-1] += [0.0] * (width - len(ids[-1]))
                ids[-1] += [tokenizer.pad_token_id] * (width - len(ids[-1]))
                ids.append([])
                weights.append([])
            ids[-1] += row
            weights[-1] += weighs
        while len(ids) > settings.rows:
            yield torch.tensor(ids[: settings.rows]), torch.tensor(weights[: settings.rows])
            del ids[: settings.rows], weights[: settings.rows]


def _encoded(
    documents: list[list[corpus.Part]], settings: Settings, tokenizer: "PreTrainedTokenizerFast"
) -> Iterator[tuple[list[int], list[float]]]:
    """Each document's token ids and weights, from BOS to EOS."""
    parts = [text for document in documents for text, _ in document]
    encoded = iter(tokenizer(parts, add_special_tokens=False)["input_ids"])
    for document in documents:
        ids, weights = [tokenizer.bos_token_id], [0.0]
        for _, known in document:
            piece = next(encoded)
            ids += piece
            weights += [1.0 if known else settings.question_weight] * len(piece)
        yield [*ids, tokenizer.eos_token_id], [*weights, 1.0]


def train_model(
    settings: Settings, tokenizer: "PreTrainedTokenizerFast", progress: Progress
) -> tuple["MistralForCausalLM", float]:
    """AdamW with a cosine schedule; returns the network and the mean loss of the last 100 steps."""
    import torch
    from torch.nn.functional import cross_entropy
    from transformers import get_cosine_schedule_with_warmup

    model = _network(settings, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = get_cosine_schedule_with_warmup(optimizer, settings.warmup, settings.steps)
    losses: list[float] = []
    for step, (ids, weights) in enumerate(islice(batches(settings, tokenizer), settings.steps), start=1):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # [rows, length, vocabulary]
        surprise = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = surprise @ weights[:, 1:].flatten() / weights[:, 1:].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses = [*losses[-99:], loss.item()]
        progress.advance(step, settings.steps, "steps", loss=sum(losses) / len(losses))
    return model.eval(), sum(losses) / len(losses)


def probe(model: Any, tokenizer: "PreTrainedTokenizerFast", tasks_per_family: int) -> dict[str, float]:
    """Share of right answers per family, both turns, on test prompts: plain text, greedy, no chat format."""
    rates = {}
    for family in FAMILIES:
        tasks = list(islice(world.stream(family, "test", "probe"), tasks_per_family))
        prompts = [task.prompts[0] + "\n" for task in tasks]
        prompts += ["\n".join((task.prompts[0], task.turns[0].answers[0], task.prompts[1], "")) for task in tasks]
        turns = [task.turns[0] for task in tasks] + [task.turns[1] for task in tasks]
        answers = complete(model, tokenizer, prompts)
        right = [grade(turn, answer).correct for turn, answer in zip(turns, answers, strict=True)]
        rates[family] = sum(right) / len(right)
    return rates


def complete(model: Any, tokenizer: "PreTrainedTokenizerFast", prompts: list[str], tokens: int = 28) -> list[str]:
    """Greedy continuations of plain prompts, each cut at its first line break or EOS."""
    import torch

    rows = [[tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in prompts]
    starts = [len(row) for row in rows]
    for _ in range(tokens):
        width = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
        with torch.inference_mode():
            states = model.model(input_ids=ids, use_cache=False).last_hidden_state  # right padding: causal, so harmless
            last = torch.tensor([len(row) - 1 for row in rows])
            picked = model.lm_head(states[torch.arange(len(rows)), last]).argmax(-1).tolist()
        for row, token in zip(rows, picked, strict=True):
            row.append(token)
    texts = (tokenizer.decode(row[start:]) for row, start in zip(rows, starts, strict=True))
    return [text.split(EOS)[0].split("\n")[0] for text in texts]


def main() -> None:
    """Make the shipped base model again."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "base")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--log", type=Path, default=None, help="file of progress events")
    chosen = parser.parse_args()
    make(
        chosen.out,
        Settings(seed=chosen.seed, steps=chosen.steps),
        progress=Progress("base", chosen.log),
    )


if __name__ == "__main__":
    main()
