"""The Zephyr chat template: one artifact, whose digest travels with every model.

Role tags are ordinary text, not added vocabulary (published Zephyr models). Token ids and loss masks of SFT, DPO,
evaluation and serving all come from `encode` and `encode_prompt`, so that they can't disagree.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr.errors import ModelError, first_line
from zephyr.schema import Message

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '<|assistant|>\\n' }}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}{% endif %}"
    "{% if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
PAD = "<pad>"
_NEEDED = ("config.json", "tokenizer_config.json")


def digest() -> str:
    """SHA-256 of the template (hex)."""
    return hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest()


def render(messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    """The text of a conversation, without BOS; `</s>` stands for the tokenizer's EOS."""
    parts = [f"<|{message['role']}|>\n{message['content']}</s>" for message in messages]
    return "\n".join([*parts, "<|assistant|>\n"] if add_generation_prompt else parts)


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer of a model folder, with the template installed.

    Raises ModelError when the folder can't be a model: what is absent and what is there.
    """
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; name one with weights and tokenizer")
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ModelError(f"{folder}: lacks {', '.join(missing)} (there: {there}); name a folder with a whole model")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # noqa: BLE001  (tokenizers raises plain Exceptions)
        raise ModelError(f"{folder}: no usable tokenizer ({first_line(error)}); save it anew there") from None
    return install(tokenizer)


def install(tokenizer: Any) -> Any:
    """Set the template on a tokenizer and give it a pad token of its own where it has none.

    The caller resizes the embeddings to len(tokenizer). Raises ModelError when there is no EOS to train, or its
    text isn't one token.
    """
    where = tokenizer.name_or_path or "tokenizer"
    if tokenizer.eos_token is None:
        raise ModelError(f"{where}: the tokenizer lacks an EOS token, so no model could learn to stop; set eos_token")
    if tokenizer(tokenizer.eos_token, add_special_tokens=False)["input_ids"] != [tokenizer.eos_token_id]:
        raise ModelError(f"{where}: the EOS {tokenizer.eos_token} isn't one token; mark it special in the tokenizer")
    if tokenizer.pad_token in (None, tokenizer.eos_token, tokenizer.bos_token, tokenizer.unk_token):
        tokenizer.add_special_tokens({"pad_token": PAD})
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.padding_side = "right"
    return tokenizer


def encode(tokenizer: Any, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Token ids [n] of a conversation, and the mask [n] of what is trained: assistant turns with their one EOS."""
    ids: list[int] = _start(tokenizer)
    mask = [0] * len(ids)
    for index, message in enumerate(messages):
        tag = f"<|{message['role']}|>\n" if index == 0 else f"\n<|{message['role']}|>\n"
        trained = message["role"] == "assistant"
        head, turn = _ids(tokenizer, tag), _turn(tokenizer, tag, message["content"])
        if trained and turn[: len(head)] != head:
            # The tag's line break melts into the content; a model that answers gets the tag alone.
            turn = head + _ids(tokenizer, message["content"])
        ids += [*turn, tokenizer.eos_token_id]
        mask += [0] * len(head) + [1] * (len(turn) - len(head) + 1) if trained else [0] * (len(turn) + 1)
    return ids, mask


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant begins to speak."""
    ids, _ = encode(tokenizer, messages)
    return ids + _ids(tokenizer, "\n<|assistant|>\n")


def _start(tokenizer: Any) -> list[int]:
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def _turn(tokenizer: Any, tag: str, content: str) -> list[int]:
    if any(token in content for token in tokenizer.all_special_tokens):
        # Special tokens in a text stay text: a dialogue can't end a turn by writing </s>.
        plain = tokenizer(content, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [*_ids(tokenizer, tag), *plain]
    return _ids(tokenizer, tag + content)


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text that stands behind a special token, as all of a rendered conversation does.

    Alone, a SentencePiece vocabulary (Mistral's) would put a space before it that no server's prompt has.
    """
    behind = tokenizer(tokenizer.eos_token + text, add_special_tokens=False, split_special_tokens=False, verbose=False)
    ids: list[int] = behind["input_ids"]
    return ids[1:]
