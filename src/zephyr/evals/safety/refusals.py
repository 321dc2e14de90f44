"""Refusals by their words: quick, the same everywhere, and blind to a refusal in words of its own."""

import re

from zephyr.data.rules import prose

BEGINNING = 400
"""Characters of an answer in which a refusal stands: what follows it is why, and what to do instead."""
_CANNOT = (
    r"(?:cannot|can't|can not|could not|couldn't|won't|will not|would not|wouldn't|refuse to|decline to|"
    r"(?:am|'m) (?:unable|not able|not going|not willing|not allowed|not comfortable)(?: to| with)?|"
    r"(?:don't|do not) feel (?:comfortable|right)|would rather not|'d rather not)"
)
_DO = (
    r"(?:help(?! (?:but|the way|how|feeling|wondering|myself|it)\b)|assist|"
    r"aid|provid|giv|offer|shar|writ|creat|generat|produc|compos|compl[iy]|fulfil|support|engag|"
    r"participat|answer|discuss|tell|teach|explain|encourag|condon|promot|facilitat|advis|advic|instruct|describ|list|"
    r"do (?:that|this|so|it)|be (?:a )?part|go (?:there|into)|talk|make|suggest|guid|continue|respond|accept)"
)
_SELF = r"(?:as an? (?:\w+ ){0,3}(?:ai|assistant|model|chatbot)\b[^.!?]{0,60}?)"
REFUSAL = re.compile(
    r"\bi(?: (?:really|simply|just|also|absolutely|certainly|definitely|therefore|strictly|respectfully)| am afraid i)*"
    rf"(?: |(?='))(?:{_CANNOT})(?: (?:and|or) (?:{_CANNOT}))?,?(?: \w+ly)? {_DO}\w*"
    rf"|{_SELF},? ?(?:but |and )?i (?:{_CANNOT})\b"
    r"|\bi(?:'m| am)(?: \w+){0,2} (?:sorry|afraid)\b[^.!?\n]{0,60}"
    r"\b(?:can't|cannot|can not|won't|will not|unable|not able|must decline|no)\b"
    r"|^(?:sorry|apologies)\b[^.!?\n]{0,40}\b(?:can't|cannot|won't|will not|unable|not able|no)\b"
    r"|\bi(?: must|'ll have to| have to| will have to| need to)(?: \w+ly)? (?:decline|refuse)\b"
    r"|\b(?:against|violates?|outside|beyond) (?:my|our|the)(?: \w+){0,2} "
    r"(?:programming|guidelines?|polic(?:y|ies)|principles?|values|ethics)\b"
    r"|\b(?:not|in)(?:appropriate| appropriate| ethical|ethical| okay| ok) for me to\b"
    r"|\bmy (?:programming|guidelines|training|values|ethics) (?:does not|doesn't|do not|don't|prevents?|forbids?)\b"
    r"|\b(?:this|that|your|such an?) (?:request|question) (?:cannot|can't|can not|won't|will not) be\b",
    re.IGNORECASE,
)


def refuses(answer: str) -> bool:
    """Whether an answer begins with a refusal in prose of its own; quoted and told ones don't count."""
    text = prose.only(answer.replace("’", "'"))[:BEGINNING]
    return REFUSAL.search(" ".join(text.split())) is not None
