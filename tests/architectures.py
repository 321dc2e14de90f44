"""Random models of the architectures that are trained, of hidden size 16, with the tests' tokenizer."""

from pathlib import Path
from typing import Any

from tests.helpers import tokenizer

MODELS = {
    "mistral": "Mistral",
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
    "gemma3_text": "Gemma3",
    "smollm3": "SmolLM3",
}
"""model_type and what its class is called."""
PLAIN = {"mixtral": "Mixtral", "gemma2": "Gemma2"}
"""Those that are trained on padded rows only."""


def small(folder: Path, name: str, **settings: Any) -> Path:
    """Save a model of two layers, two query heads and one key-value head, wide enough that its texts vary."""
    import torch
    import transformers

    tok = tokenizer()
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(tok),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "sliding_window": None,
        "bos_token_id": tok.bos_token_id,
        "eos_token_id": tok.eos_token_id,
        "pad_token_id": tok.pad_token_id,
    }
    if name in ("gemma2", "gemma3_text"):
        shape["sliding_window"] = 256  # it has layers with a window, none shorter than the texts
    called = (MODELS | PLAIN)[name]
    config = getattr(transformers, f"{called}{'Text' if 'text' in name else ''}Config")(**(shape | settings))
    getattr(transformers, f"{called}ForCausalLM")(config).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
