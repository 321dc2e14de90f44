"""Peak memory of a training, in a process of its own, beside what `zephyr plan` says of it.

    python -m tests.measured '{"stage": "sft", "layers": 4, …}'

A first, much smaller training loads whatever is loaded late. The peak is the resident set's, minus what was there
before; MALLOC_MMAP_THRESHOLD_ in the environment keeps large blocks out of the allocator's own reserves. With `gpu` it
is what torch's allocator held on the GPU.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from zephyr.data.locations import local

TINY = {"hidden": 32, "layers": 1, "heads": 1, "kv_heads": 1, "head_dim": 32, "mlp": 64, "vocabulary": 1024}
ROOT = Path(__file__).resolve().parents[1]


def measured(**spec: Any) -> tuple[float, float]:
    """Bytes of the plan and of the measurement."""
    alone = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
    if not spec.get("gpu"):
        alone["CUDA_VISIBLE_DEVICES"] = ""
    done = subprocess.run(
        [sys.executable, "-m", "tests.measured", json.dumps(spec)],
        cwd=ROOT,
        env=os.environ | alone,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return found["plan"], found["peak"]


def config(shape: dict[str, int]) -> dict[str, Any]:
    """config.json of a Mistral model."""
    return {
        "model_type": "mistral",
        "hidden_size": shape["hidden"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"],
        "head_dim": shape["head_dim"],
        "intermediate_size": shape["mlp"],
        "vocab_size": shape["vocabulary"],
        "tie_word_embeddings": False,
        "sliding_window": None,
        "pad_token_id": 0,
    }


def _model(shape: dict[str, int], folder: Path) -> Path:
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    MistralForCausalLM(MistralConfig(**config(shape))).save_pretrained(folder)
    base = local("pkg:zephyr.tiny/base", folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def _rows(stage: str, count: int, words: int) -> list[Any]:
    def talk(number: int, size: int) -> list[dict[str, str]]:
        said = " ".join(("red", "blue", "green")[(number + i) % 3] for i in range(size))
        asked = " ".join(str(i % 10) for i in range(words // 3))
        return [{"role": "user", "content": f"{number} {asked}"}, {"role": "assistant", "content": said}]

    sides = [(talk(n, words), talk(n, words + 1 + n % 7)) for n in range(count)]
    if stage == "sft":
        return [{"messages": talk, "prompt": "p", "prompt_id": str(n)} for n, (talk, _) in enumerate(sides)]
    return [{"chosen": a, "rejected": b, "prompt": "p", "prompt_id": str(n)} for n, (a, b) in enumerate(sides)]


def _train(shape: dict[str, int], spec: dict[str, Any], count: int, words: int, folder: Path) -> tuple[Any, Any]:
    """The recipe, with the model that was made, and the rows."""
    from tests.training import fit
    from zephyr.progress import Progress
    from zephyr.recipe import load

    stage = spec["stage"]
    model = _model(shape, folder / "model")
    given = [f"model.base={model}", f"{stage}.max_length=1024", f"{stage}.global_batch_size={count // 2}"]
    given += [f"{stage}.device_tokens={spec['tokens']}", "dpo.max_prompt_length=512", "dpo.epochs=1", "sft.epochs=1"]
    given += [f"{stage}.lora={{dropout: 0.05}}"] * spec.get("lora", False)
    given += ["model.gradient_checkpointing=true"] * spec.get("checkpointing", False)
    given += ["model.dtype=bfloat16", "model.processes=1"] * spec.get("gpu", False)
    recipe = load("tiny", given)
    rows = _rows(stage, count, words)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    if spec.get("gpu"):
        import torch

        torch.cuda.reset_peak_memory_stats()
    fit(stage, model, rows, [], recipe, folder / "work", folder / "out", Progress())
    peak = torch.cuda.max_memory_allocated() if spec.get("gpu") else _status("VmHWM") - before
    return (recipe, rows), peak


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def main(spec: dict[str, Any]) -> None:
    from zephyr.plan import memory, setups, tokens
    from zephyr.plan.pool import Pool, here
    from zephyr.plan.shapes import shape_of

    with tempfile.TemporaryDirectory() as place:
        _train(TINY, spec, 4, 20, Path(place) / "first")
        shape = {name: spec[name] for name in TINY}
        (recipe, rows), peak = _train(shape, spec, spec["rows"], spec["words"], Path(place) / "second")
        source = Path(place) / "rows.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        recipe = recipe.model_copy(
            update={
                "prepare": recipe.prepare.model_copy(update={"dialogues": (str(source),), "test_size": 0}),
                "pair": recipe.pair.model_copy(update={"pairs": (str(source),), "test_size": 0}),
            }
        )
        work = tokens.work(recipe, spec["stage"], tokenizer=tokens.tokenizer_of(recipe.model.base))
        pool = here(recipe) if spec.get("gpu") else Pool(None, 0, 1, 2**40)
        setup = setups.setup(recipe, spec["stage"], pool, work)
        found = memory.memory(shape_of(recipe.model.base, Path(place)), setup)
    print({name: value if isinstance(value, str) else round(value / 2**20) for name, value in vars(found).items()})
    print(json.dumps({"plan": found.total - (memory.CONTEXT if pool.gpu else memory.PROCESS), "peak": peak}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
