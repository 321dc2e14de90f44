"""`zephyr chat`: a conversation in the terminal with a model behind the OpenAI API."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.markup import escape

from zephyr.errors import EndpointError

WAIT = 30.0
"""Seconds that `zephyr serve` may take to come up."""
HELP = "/new begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer"


def chat(
    url: str, name: str | None, key: str | None, system: str | None, temperature: float, max_tokens: int | None
) -> int:
    """Read a line, stream the answer, until the end of input; returns the exit code.

    Lines may come through a pipe, too. Raises EndpointError when the endpoint can't be reached, refuses the key or
    lacks the model.
    """
    from openai import OpenAI, OpenAIError

    with OpenAI(base_url=url, api_key=key or "none", max_retries=0) as client:
        try:
            model = name or _first_model(client, url)
        except OpenAIError as error:
            raise EndpointError(f"{url}: {_said(error)}; start one with `zephyr serve zephyr@champion`") from None
        _converse(client, url, model, system, temperature, max_tokens)
    return 0


def _converse(
    client: Any, url: str, model: str, system: str | None, temperature: float, max_tokens: int | None
) -> None:
    from openai import OpenAIError

    console = Console(highlight=False)
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  (line editing and history for input())

        console.print(f"[bold]{escape(model)}[/bold] [dim]at {escape(url)}; {HELP}[/dim]")
    head: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    talk = list(head)
    while True:
        try:
            line = input("\n> " if interactive else "").strip()
        except (EOFError, KeyboardInterrupt):
            if interactive:
                print()  # the shell's prompt begins a line of its own
            break
        if line in ("/exit", "/quit"):
            break
        if line == "/new":
            talk = list(head)
        elif line.startswith("/"):
            console.print(f"[dim]{HELP}[/dim]")
        elif line:
            talk.append({"role": "user", "content": line})
            try:
                talk.append(
                    {"role": "assistant", "content": _answer(client, console, model, talk, temperature, max_tokens)}
                )
            except OpenAIError as error:
                talk.pop()
                if not interactive:
                    raise EndpointError(f"{url}: {_said(error)}") from None
                console.print(f"[red]{escape(_said(error))}[/red]")


def _first_model(client: Any, url: str) -> str:
    """The endpoint's first model; a server that is just starting is waited for."""
    from openai import APIConnectionError

    deadline = time.monotonic() + WAIT
    said = False
    while True:
        try:
            models = client.models.list().data
            if not models:  # None where the answer isn't OpenAI's
                raise EndpointError(f"{url}: names no model; is this the base URL of an OpenAI API (…/v1)?")
            return str(models[0].id)
        except APIConnectionError:
            if time.monotonic() > deadline:
                raise
            if not said:
                print(f"waiting for {url} …", file=sys.stderr)
                said = True
            time.sleep(0.5)


def _answer(
    client: Any, console: Console, model: str, talk: list[dict[str, str]], temperature: float, max_tokens: int | None
) -> str:
    """Stream one answer; Ctrl-C ends it where it is."""
    interactive = sys.stdin.isatty()
    options = {"max_tokens": max_tokens} if max_tokens else {}
    text = ""
    try:
        with client.chat.completions.create(
            model=model, messages=talk, temperature=temperature, stream=True, **options
        ) as stream:
            for chunk in stream:
                piece = chunk.choices[0].delta.content or "" if chunk.choices else ""
                text += piece
                sys.stdout.write(_harmless(piece) if interactive else piece)
                sys.stdout.flush()
    except KeyboardInterrupt:
        console.print("[dim] (stopped)[/dim]", end="")
    print(flush=True)
    return text


def _harmless(piece: str) -> str:
    """Without control characters, which could do things to a terminal."""
    return "".join(sign for sign in piece if sign.isprintable() or sign in "\n\t")


def _said(error: Exception) -> str:
    """An error of the client in one line."""
    body = getattr(error, "body", None)
    return str(body["message"] if isinstance(body, dict) and body.get("message") else error).splitlines()[0]
