"""Replies to many calls: found in the journal, or made and journalled."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.account import Account
from zephyr.client.call import Call, key_of
from zephyr.client.work import Means, Work
from zephyr.journal import Journal, Reply
from zephyr.progress import Progress
from zephyr.sections import Endpoint

USUAL = Means()


def complete(
    calls: Sequence[Call],
    endpoints: Mapping[str, Endpoint],
    account: Account,
    progress: Progress,
    unit: str = "calls",
    means: Means = USUAL,
) -> list[Reply]:
    """Replies to all calls, in their order; journalled ones are not called again.

    Raises EndpointError when an endpoint can't serve its calls, BudgetError when the account's allowance is used up,
    StoreError when the journal can't be written. In each case all replies that were paid for are journalled.
    """
    book = Journal(account.journal)
    keys = [key_of(call, endpoints[call.endpoint]) for call in calls]
    wanted = dict(zip(keys, calls, strict=True))
    replies: dict[str, Reply] = {}
    try:
        replies |= account.known(book, keys, progress.note)
        for key, reply in replies.items():
            account.count(key, reply)
        if len(replies) < len(wanted):
            asyncio.run(Work(wanted, replies, endpoints, account, book, progress, unit, means).run())
        return [replies[key] for key in keys]
    finally:
        progress.event("calls", unit=unit, endpoints=_bill(wanted, replies))  # also of a step that failed
        book.close()


def _bill(calls: Mapping[str, Call], replies: Mapping[str, Reply]) -> list[dict[str, Any]]:
    """Per endpoint: replies by origin, tokens and US dollars of those that were paid for now."""
    rows = []
    for name in sorted({call.endpoint for call in calls.values()}):
        own = [replies[key] for key, call in calls.items() if call.endpoint == name and key in replies]
        paid = [reply for reply in own if reply.paid]
        rows.append(
            {
                "endpoint": name,
                "paid": len(paid),
                "failed": sum(reply.error is not None for reply in own),
                "journal": sum(reply.error is None and not reply.paid for reply in own),
                "tokens_in": sum(reply.tokens_in for reply in paid),
                "tokens_out": sum(reply.tokens_out for reply in paid),
                "dollars": sum(reply.dollars for reply in paid),
            }
        )
    return rows
