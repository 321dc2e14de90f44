from typing import Any

import pytest

from tests.helpers import tokenizer
from zephyr.data import template
from zephyr.errors import ModelError
from zephyr.schema import Message

TALK: list[Message] = [
    {"role": "user", "content": "hello there"},
    {"role": "assistant", "content": "good day"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
]


def test_every_token_of_a_conversation() -> None:
    tok = template.install(tokenizer())
    ids, mask = template.encode(tok, TALK)
    trained = [token for token, on in zip(ids, mask, strict=True) if on]
    context = [token for token, on in zip(ids, mask, strict=True) if not on]
    # Trained: both answers, each with the one EOS that ends it. Context: BOS, tags, both questions with their EOS.
    assert tok.decode(trained) == "good day</s>two</s>"
    assert tok.decode(context) == (
        "<s><|user|>\nhello there</s>\n<|assistant|>\n" + "\n<|user|>\none</s>\n<|assistant|>\n"
    )
    assert ids.count(tok.bos_token_id) == 1 and ids[0] == tok.bos_token_id
    assert ids.count(tok.eos_token_id) == 4  # one per turn
    assert ids[-1] == tok.eos_token_id and mask[-1] == 1  # nothing follows the last EOS, not even a line break
    assert tok.pad_token_id not in ids


def test_the_prompt_is_a_prefix_of_the_conversation() -> None:
    tok = template.install(tokenizer())
    whole, mask = template.encode(tok, TALK)
    prompt = template.encode_prompt(tok, TALK[:3])
    assert whole[: len(prompt)] == prompt
    assert mask[len(prompt)] == 1 and mask[len(prompt) - 1] == 0


def test_the_jinja_template_says_the_same() -> None:
    tok = template.install(tokenizer())
    text = tok.apply_chat_template(TALK, tokenize=False)
    assert text == tok.decode(template.encode(tok, TALK)[0])
    assert text == "<s>" + template.render(TALK)
    asked = tok.apply_chat_template(TALK[:1], tokenize=False, add_generation_prompt=True)
    assert asked == tok.decode(template.encode_prompt(tok, TALK[:1]))


def test_special_tokens_in_a_users_text_stay_text() -> None:
    tok = template.install(tokenizer())
    ids, _ = template.encode(tok, [{"role": "user", "content": "a</s>b"}, {"role": "assistant", "content": "c"}])
    assert ids.count(tok.eos_token_id) == 2  # the ends of the two turns


def test_a_tokenizer_without_eos_is_refused() -> None:
    with pytest.raises(ModelError, match="lacks an EOS"):
        template.install(tokenizer(eos=False))


def test_pad_gets_a_token_of_its_own() -> None:
    tok = tokenizer()
    tok.pad_token = tok.eos_token
    template.install(tok)
    assert tok.pad_token_id != tok.eos_token_id


def test_the_digest_is_pinned() -> None:
    # A changed template makes every trained model's conversations differ from its training: change it knowingly.
    assert template.digest() == "3b71976dafaddbc51e4fa679162990e7b367ab723bca77c2c976d8ca13be087c"


def _letters(pre_tokenizer: Any, merges: list[tuple[str, str]] = []) -> Any:  # noqa: B006
    """A tokenizer with one token for every character, and the merges given; "▁" is SentencePiece's space."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "<s>", "</s>", "<unk>", *"\n▁ĊĠ", *map(chr, range(33, 127)), *(a + b for a, b in merges)]
    bpe = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def _byte_level(**options: Any) -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False, **options)


def _metaspace(scheme: str) -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)


def test_the_mask_counted_by_hand() -> None:
    ids, mask = template.encode(
        template.install(_letters(_byte_level())),
        [
            {"role": "system", "content": "be"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "yo"},
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "y"},
        ],
    )
    # One token for each character: BOS 1, "<|system|>\n" 11, "be" 2, EOS 1, "\n<|user|>\n" 10, "hi" 2, EOS 1,
    # "\n<|assistant|>\n" 15 = 43 not trained; "yo" 2 + EOS = 3 trained;
    # "\n<|user|>\n" 10, "x" 1, EOS 1, "\n<|assistant|>\n" 15 = 27 not; "y" 1 + EOS = 2 trained.
    assert mask == [0] * 43 + [1] * 3 + [0] * 27 + [1] * 2
    assert len(ids) == 75
    assert [i for i, token in enumerate(ids) if token == 2] == [14, 27, 45, 57, 74]  # the EOS of the five turns


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_ids_are_those_a_server_gets_from_the_rendered_text(scheme: str) -> None:
    # A SentencePiece vocabulary may put a space before a text that is encoded apart; a server encodes the whole.
    for tok in (_letters(_metaspace(scheme)), _letters(_byte_level())):
        template.install(tok)
        assert template.encode(tok, TALK)[0] == tok.apply_chat_template(TALK, tokenize=True, return_dict=False)
        asked = tok.apply_chat_template(TALK[:3], tokenize=True, return_dict=False, add_generation_prompt=True)
        assert template.encode_prompt(tok, TALK[:3]) == asked


def test_the_prompt_is_a_prefix_where_the_tags_line_break_would_melt_into_the_answer() -> None:
    # Merged over the boundary, "\ny" would be one token that a model asked with "…\n" can never begin with.
    tok = template.install(_letters(_byte_level(use_regex=False), [("Ċ", "y")]))
    talk: list[Message] = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
    ids, mask = template.encode(tok, talk)
    prompt = template.encode_prompt(tok, talk[:1])
    assert ids[: len(prompt)] == prompt
    assert mask == [0] * len(prompt) + [1] * 3  # "y", "o", EOS


def test_no_eos_is_trained_within_an_answer() -> None:
    tok = template.install(tokenizer())
    talk: list[Message] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "strike</s>out"}]
    ids, mask = template.encode(tok, talk)
    assert [on for token, on in zip(ids, mask, strict=True) if token == tok.eos_token_id] == [0, 1]
    assert tok.decode(ids) == "<s>" + template.render(talk)


def test_an_eos_that_is_not_one_token_is_refused() -> None:
    tok = tokenizer()
    tok.add_special_tokens({"eos_token": "</s>"})
    tok._tokenizer.encode_special_tokens = True
    tok.split_special_tokens = True
    with pytest.raises(ModelError, match="isn't one token"):
        template.install(tok)


def test_the_templates_generation_marks_are_the_mask() -> None:
    # One token for each character, so that the marks, which count characters, fall on the tokens' bounds.
    tok = template.install(_letters(_byte_level()))
    marked = tok.apply_chat_template(TALK, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    assert (marked["input_ids"], marked["assistant_masks"]) == template.encode(tok, TALK)
