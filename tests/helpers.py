"""A tokenizer and a model small enough to be made in a test."""

from pathlib import Path
from typing import Any

TEXT = ["the cat sat on the mat", "<|user|>\nhello there\n<|assistant|>\ngood day", "one two three four five 1 2 3"]


def tokenizer(eos: bool = True) -> Any:
    """Byte-level BPE with <s>, </s>, <pad>; ids 0 to 2 are the pad, BOS and EOS tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXT, trainer)
    names = {"bos_token": "<s>", "pad_token": "<pad>"} | ({"eos_token": "</s>"} if eos else {})
    return PreTrainedTokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False, **names)


def tiny_model(folder: Path, seed: int = 0, **settings: Any) -> Path:
    """Save a random Mistral of hidden size 16 with the tokenizer; its weights are wide, so that its texts vary."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    tok = tokenizer()
    torch.manual_seed(seed)
    shape = {
        "vocab_size": len(tok),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.4,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "bos_token_id": tok.bos_token_id,
        "eos_token_id": tok.eos_token_id,
        "pad_token_id": tok.pad_token_id,
    }
    MistralForCausalLM(MistralConfig(**(shape | settings))).save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder
