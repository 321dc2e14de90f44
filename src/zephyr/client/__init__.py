"""Every model behind a name is an endpoint that speaks the OpenAI API; this is how they are called.

`complete` and `probe` are all that the steps use. Behind them: ask.py makes one attempt, limits.py says when the next
one may be made, work.py goes through the calls, writer.py makes replies durable before they count.
"""

from zephyr.client.ask import probe, secret
from zephyr.client.call import Call, key_of, number, prompt_tokens
from zephyr.client.engine import complete
from zephyr.client.limits import Patience
from zephyr.client.work import Means
from zephyr.journal import Reply

__all__ = ["Call", "Means", "Patience", "Reply", "complete", "key_of", "number", "probe", "prompt_tokens", "secret"]
