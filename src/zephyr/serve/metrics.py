"""What Prometheus finds at /metrics, beside KServe's own figures."""

from collections.abc import Sequence as Items

from prometheus_client import Counter, Gauge, Histogram

from zephyr.engine import Engine, Sequence

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_requests = Counter("zephyr_requests", "Requests by outcome: done, hung_up, failed, refused_STATUS", ["outcome"])
_asked = Counter("zephyr_prompt_tokens", "Tokens of prompts")
_said = Counter("zephyr_completion_tokens", "Generated tokens, ends of answers included")
_first = Histogram("zephyr_time_to_first_token_seconds", "From the request to its first token", buckets=_SECONDS)
_running = Gauge("zephyr_running_sequences", "Sequences in the batch")
_waiting = Gauge("zephyr_waiting_sequences", "Sequences that wait for a place in the batch")


def watch(engine: Engine) -> None:
    """Let the gauges follow an engine."""
    _running.set_function(lambda: engine.running)
    _waiting.set_function(lambda: engine.waiting)


def finished(sequences: Items[Sequence], outcome: str) -> None:
    """Count a request that was generated for, whole or in part."""
    _requests.labels(outcome).inc()
    prompts = {id(s.prompt): s.prompt for s in sequences}  # that the choices of one request share
    _asked.inc(sum(map(len, prompts.values())))
    _said.inc(sum(len(s.tokens) + (s.finish_reason == "stop") for s in sequences))
    firsts = [s.first_token - s.began for s in sequences if s.first_token is not None]
    if firsts:
        _first.observe(min(firsts))


def refused(status: int) -> None:
    _requests.labels(f"refused_{status}").inc()
