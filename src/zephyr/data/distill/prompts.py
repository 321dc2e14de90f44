"""What the teacher is asked beside answers: a new instruction from a prompt and its answer, a user's next message.

The marks (the first line, the tags) are how the embedded world's teacher knows what it is asked for.
"""

import hashlib
import re
from collections.abc import Sequence

from zephyr.schema import Message

WAYS = (
    "Make it harder by one step: a good answer needs one more piece of reasoning.",
    "Move on: another subject of the same topic, and another kind of task.",
    "Make it harder: add one requirement or limit that changes what a good answer looks like.",
    "Ask for something that a reader of the answer would want to do next, and that stands on its own.",
    "Make it more specific: put it into a concrete situation, with the details that an answer needs.",
    "Take up one point that the answer only touches on, and make it the whole task.",
    "Make it harder: ask about a rarer or trickier case of the same matter.",
    "Ask for another form of text, for another reader or purpose.",
)
"""How a new instruction differs: in turn one that asks more of the same matter, and one for something nearby."""
MOVES = (
    "asks for more on one point of the last answer",
    "asks to change the last answer: its form, its length, its tone, or for another reader",
    "takes the last answer one step further",
    "tries the last answer on a case of their own",
    "doubts or misreads one point of the last answer and asks about it",
)
"""What users do after an answer."""

MARKS = ("# Write a new instruction", "# Speak as the user")
_REFINE = """# Write a new instruction

Below are an instruction that someone gave to an assistant, and the assistant's answer. Write one new instruction for \
the assistant. {way} {topic}

The new instruction
- stands on its own: whoever reads it has not seen the first instruction or the answer, so it names what it is about \
and includes every text, list or number that it refers to;
- can be answered in writing alone, from knowledge and from what it includes, in a page or less;
- differs from the first one in more than its wording;
- sounds as a person would write it: no talk about instructions, prompts, assistants or this task;
- is written in the language of the first instruction, in at most 150 words beside the material it includes.

<instruction>
{instruction}
</instruction>
<answer>
{answer}
</answer>

Do not answer it. Reply with the new instruction alone, between <new> and </new>.
"""
_SPEAK = """# Speak as the user

Below is a conversation of a user with an assistant. Write the user's next message. In it the user {move}.

The message
- follows from the conversation and asks for something that has not been answered in it;
- sounds as this user writes: in the same language, as brief as people are in a chat;
- holds no thanks, no praise, no farewell, and no words that only an assistant would say.

<conversation>
{conversation}
</conversation>

Reply with the user's next message alone, between <new> and </new>.
"""


def digest() -> str:
    """SHA-256 of all that is asked (hex): other words give other dialogues."""
    return hashlib.sha256(repr((WAYS, MOVES, _REFINE, _SPEAK)).encode()).hexdigest()


def refine(instruction: str, answer: str, topic: str, way: str) -> str:
    """The prompt for a new instruction; `way` is one of WAYS."""
    within = f"Stay within the topic: {topic}." if topic else "Stay within its topic, in the wide sense."
    return _filled(_REFINE, way=way, topic=within, instruction=instruction, answer=answer)


def speak(talk: Sequence[Message], move: str) -> str:
    """The prompt for the user's next message; `move` is one of MOVES."""
    shown = "\n".join(f"<{message['role']}>\n{message['content']}\n</{message['role']}>" for message in talk)
    return _filled(_SPEAK, move=move, conversation=shown)


def _filled(form: str, **parts: str) -> str:
    """In one pass, so that braces and names in a text of the dialogue stay text."""
    return re.sub(r"\{(\w+)\}", lambda match: parts[match[1]], form)


_THOUGHT = re.compile(r"\A\s*<think>.*?</think>\s*", re.DOTALL)
_TAGGED = re.compile(r"<new>\s*(.*?)\s*</new>", re.DOTALL | re.IGNORECASE)
_OPEN = re.compile(r"\A.*?<new>\s*|\s*</new>.*\Z", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"\A```\w*\n(.*?)\n?```\Z", re.DOTALL)
_WHAT = r"(?:instruction|prompt|question|task|request|query|message|user|human)"
_BEFORE = r"\A[#*_\s]*(?:(?:the|user'?s?)\s+)?(?:(?:new|next|refined|revised|rewritten|follow-?up)\s+)"
_LABEL = re.compile(rf"{_BEFORE}*{_WHAT}(?:\s+\d+)?[*_\s]*:[*_\s]*", re.IGNORECASE)
_OURS = re.compile(rf"{_BEFORE}+{_WHAT}[*_\s]*:[*_\s]*", re.IGNORECASE)  # "Question: …" may be the instruction's own
_LEAD = re.compile(
    r"\A(?:(?:sure|certainly|of course|absolutely|okay|ok|great)\b[!,.]?\s*)?"
    r"(?:here(?:'s| is| are)|this is|below is|i would (?:ask|write)|i'd (?:ask|write))\b[^\n:]*?"
    rf"\b{_WHAT}s?\b[^\n:]*:\s*",
    re.IGNORECASE,
)
_POLITE = re.compile(r"\A(?:sure|certainly|of course|absolutely|okay|ok|great)(?: thing)?[!,.]*(?:\s*\n\s*|\Z)", re.I)
_FIRST = re.compile(r"\A\s*(?:1[.)]|[-*•])\s+(.*?)(?=^\s*(?:2[.)]|[-*•])\s|\Z)", re.DOTALL | re.MULTILINE)
_REMARK = re.compile(
    rf"\n\s*\n[(*_]*(?:note|explanation|rationale|let me know|i hope|feel free|this (?:new |refined |revised )?{_WHAT}"
    r"\b[^\n]*\b(?:adds?|asks?|builds?|deepens?|broadens?|explores?|makes?|requires?|goes|shifts?|extends?))\b.*\Z",
    re.IGNORECASE | re.DOTALL,
)
_QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“", "'": "'", "`": "`", "「": "」"}


def written(reply: str) -> str:
    """The text that the teacher wrote, without what it says around it; empty when nothing is left.

    The tags decide where there are any. Without them fences, lead-ins, labels, numbers, quotes and remarks are taken
    off; of several numbered instructions the first one counts.
    """
    reply = _THOUGHT.sub("", reply)
    tagged = _TAGGED.search(reply)
    text = tagged[1] if tagged else _OPEN.sub("", reply)
    while (peeled := _peeled(text.strip(), strict=tagged is not None)) != text:
        text = peeled
    return text


def _peeled(text: str, strict: bool) -> str:
    """One layer less, or the same text; `strict` only takes off what is never part of an instruction."""
    for pattern in (_LEAD, _OURS if strict else _LABEL):
        if (rest := pattern.sub("", text)) != text:
            return rest.strip()
    if fenced := _FENCE.match(text):
        return fenced[1].strip()
    if _quoted(text):
        return text[1:-1].strip()
    if strict:
        return text
    for pattern in (_POLITE, _REMARK):
        if (rest := pattern.sub("", text)) != text:
            return rest.strip()
    first = _FIRST.match(text)
    return first[1].strip() if first else text


def _quoted(text: str) -> bool:
    """Whether one pair of quotes holds all of a text: `"Say "hi" to me."` is, `"Yes" or "no"` isn't."""
    close = _QUOTES.get(text[:1])
    if close is None or len(text) < 2 or text[-1] != close:
        return False
    *before, last = text[1:-1].split(close)
    if text[0] != close:
        return all(part.count(text[0]) == 1 for part in before) and text[0] not in last
    # Within, quotes open behind a space or a bracket and close again.
    return len(before) % 2 == 0 and all(part == "" or part[-1] in " \n([" for part in before[::2])


def echoes(text: str, shown: str) -> bool:
    """Whether the teacher gave back what it was shown, or our own words, instead of something new."""
    return _plain(text) == _plain(shown) or any(mark in text for mark in MARKS)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
