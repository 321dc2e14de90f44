"""Golden conversations: a few fixed ones that touch all that a chat template decides.

A lone question, a system message, a second turn: what the weights make of them tells one set of weights from another.
"""

from zephyr.schema import Message


def _talk(*turns: str, system: str | None = None) -> list[Message]:
    head: list[Message] = [Message(role="system", content=system)] if system else []
    return head + [
        Message(role="assistant" if number % 2 else "user", content=text) for number, text in enumerate(turns)
    ]


CONVERSATIONS = (
    _talk("Tell me a story."),
    _talk("Who are you?"),
    _talk("What is 7 plus 5?"),
    _talk("Say hello.", "Hello.", "Now say it twice."),
    _talk("Describe the sea.", system="Be brief."),
    _talk("Name three colors and say why you like them."),
)
"""Short ones: they fit the smallest context."""
