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
