"""The Zephyr chat template: one artifact, whose digest travels with every model.

Role tags are ordinary text, not added vocabulary (published Zephyr models). Token ids and loss masks of SFT, DPO,
evaluation and serving all come from `encode` and `encode_prompt`, so that they can't disagree.
"""

import hashlib
from collections.abc import Mapping, Sequence
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
_ANSWER = "<|assistant|>\n"
_Turn = tuple[str, str]  # tag and content
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
    return encode_all(tokenizer, [messages])[0]


def encode_all(tokenizer: Any, conversations: Sequence[Sequence[Message]]) -> list[tuple[list[int], list[int]]]:
    """`encode` of each. A turn that several share is read once, and all texts go to the tokenizer together: one in
    Rust reads them on all cores."""
    wanted = [[(_tag(index, message), message["content"]) for index, message in enumerate(c)] for c in conversations]
    tags = list(dict.fromkeys(tag for turns in wanted for tag, _ in turns))
    heads = dict(zip(tags, _ids(tokenizer, tags), strict=True))
    read = _turns(tokenizer, heads, list(dict.fromkeys(turn for turns in wanted for turn in turns)))
    return [_joined(tokenizer, turns, heads, read) for turns in wanted]


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant begins to speak."""
    ids, _ = encode(tokenizer, messages)
    return ids + _ids(tokenizer, ["\n" + _ANSWER])[0]


def _joined(
    tokenizer: Any, turns: Sequence[_Turn], heads: Mapping[str, list[int]], read: Mapping[_Turn, list[int]]
) -> tuple[list[int], list[int]]:
    ids: list[int] = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    mask = [0] * len(ids)
    for tag, content in turns:
        turn = read[tag, content]
        context = len(heads[tag]) if tag.endswith(_ANSWER) else len(turn) + 1
        ids += [*turn, tokenizer.eos_token_id]
        mask += [0] * context + [1] * (len(turn) + 1 - context)
    return ids, mask


def _tag(index: int, message: Message) -> str:
    return f"<|{message['role']}|>\n" if index == 0 else f"\n<|{message['role']}|>\n"


def _turns(tokenizer: Any, heads: Mapping[str, list[int]], turns: Sequence[_Turn]) -> dict[_Turn, list[int]]:
    """Token ids of each turn's tag and content."""
    special = tokenizer.all_special_tokens
    spelled = [turn for turn in turns if any(token in turn[1] for token in special)]
    # Special tokens in a text stay text: a dialogue can't end a turn by writing </s>.
    plain = _read(tokenizer, [content for _, content in spelled], split_special_tokens=True)
    read = dict(zip(turns, _ids(tokenizer, [tag + content for tag, content in turns]), strict=True))
    # Where the tag's line break melts into an answer, that is read alone: a model that answers gets the tag alone.
    melted = [
        turn for turn in turns if turn[0].endswith(_ANSWER) and read[turn][: len(heads[turn[0]])] != heads[turn[0]]
    ]
    alone = _ids(tokenizer, [content for _, content in melted])
    for turn, ids in zip(melted + spelled, alone + plain, strict=True):
        read[turn] = heads[turn[0]] + ids
    return read


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts that stand behind a special token, as all of a rendered conversation does.

    Alone, a SentencePiece vocabulary (Mistral's) would put a space before them that no server's prompt has.
    """
    behind = _read(tokenizer, [tokenizer.eos_token + text for text in texts], split_special_tokens=False)
    return [ids[1:] for ids in behind]


def _read(tokenizer: Any, texts: list[str], split_special_tokens: bool) -> list[list[int]]:
    if not texts:
        return []
    options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    ids: list[list[int]] = tokenizer(texts, split_special_tokens=split_special_tokens, **options)["input_ids"]
    return ids
