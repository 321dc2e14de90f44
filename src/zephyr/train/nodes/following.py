"""Follows a TrainJob to its end: the first pod's log, restarts, what it waits for, and why it failed.

It asks every few seconds instead of watching: a training takes days, and no connection lasts as long.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from zephyr.cluster.kube import Absent, Kube, Unreachable
from zephyr.errors import ClusterError, StoreError
from zephyr.progress import Progress

NODE = "node"
"""What Trainer calls a node's container, and the JobSet's replicated job."""
JOBSET = "jobset.sigs.k8s.io/jobset-name"
ATTEMPT = "jobset.sigs.k8s.io/restart-attempt"
INDEX = "batch.kubernetes.io/job-completion-index"
EVERY = 5.0
"""Seconds between two looks."""
SILENCE = 600.0
"""Seconds that the API server, or the store, may be away."""
STUCK = 600.0
"""Seconds that a pod may fail to start for a reason that seldom goes away by itself."""
STARTS_NOT = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
)
TAIL = 1000
"""Lines of a log that are shown of what was printed before it is looked at."""

State = Mapping[str, Any]


def follow(
    kube: Kube, name: str, progress: Progress, mark: Callable[[], None], every: float = EVERY, stuck: float = STUCK
) -> str | None:
    """Until the TrainJob is over: None when it is complete, else why it failed, in one line.

    Calls `mark` at each look, and prints the first pod's log; events that its first process printed there go to
    `progress`. Raises ClusterError when someone deletes the TrainJob, when its pods can't start (it is then deleted),
    and when the API server is away for long (it then runs on, and may be followed again).
    """
    look = _Look(kube, name, progress, stuck)
    heard = time.monotonic()
    while True:
        try:
            mark()
            found = kube.trainer("trainjobs", name)
            if found is None:
                raise ClusterError(
                    f"TrainJob {name} was deleted; run the step again: it resumes from the last checkpoint"
                )
            over = {c["type"]: c for c in found.get("status", {}).get("conditions", ()) if c["status"] == "True"}
            look.at(found, suspended="Suspended" in over)
        except (Unreachable, StoreError):
            if time.monotonic() - heard > SILENCE:
                raise
        else:
            heard = time.monotonic()
            if "Complete" in over:
                return None
            if "Failed" in over:
                return look.verdict(over["Failed"])
        time.sleep(every)


def tell(progress: Progress, name: str, text: str) -> None:
    """Say something of a TrainJob, in the step's log and beside the step."""
    print(f"TrainJob {name}: {text}", flush=True)
    progress.note(f"TrainJob {name}: {text}")


class _Look:
    """What was seen of a TrainJob so far."""

    def __init__(self, kube: Kube, name: str, progress: Progress, stuck: float) -> None:
        self._kube, self._name, self._progress, self._stuck = kube, name, progress, stuck
        self._began = time.monotonic()
        self._log = _Log(kube, progress)
        self._attempt = 0
        self._failed: dict[str, str] = {}
        """Pod to why it failed."""
        self._waiting = ""
        self._stuck_since: float | None = None

    def at(self, found: State, suspended: bool) -> None:
        pods = self._kube.states(f"{JOBSET}={self._name}")
        attempt = max((_number(pod, ATTEMPT) for pod in pods), default=0)
        pods = sorted((pod for pod in pods if _number(pod, ATTEMPT) == attempt), key=lambda pod: _number(pod, INDEX))
        if attempt > self._attempt:
            tell(self._progress, self._name, f"restart {attempt}: {self._why() or 'a node was lost'}")
            self._attempt = attempt
            self._failed.clear()
        for pod in pods:
            self._failures(pod)
        first = next((pod for pod in pods if _number(pod, INDEX) == 0), None)
        if first is not None and _container(first)["state"].keys() & {"running", "terminated"}:
            self._log.show(first["metadata"]["name"])
        self._waits(pods, suspended)

    def verdict(self, condition: State) -> str:
        """Why it failed, from its pods, or from what was seen of them before they were gone."""
        if condition.get("reason") == "DeadlineExceeded":
            last = self._why() or self._waiting
            return f"was ended at its deadline{f', with {last}' if last else ''}"
        why = self._why() or " ".join(str(condition.get("message") or condition.get("reason")).split())
        return f"failed: {why}{f', after {self._attempt} restarts' if self._attempt else ''}"

    def _why(self) -> str:
        """Of the pods that failed the first one: those that lose a peer fail after it."""
        return next(iter(self._failed.values()), "")

    def _failures(self, pod: State) -> None:
        name, ended = pod["metadata"]["name"], _container(pod)["state"].get("terminated")
        evicted = pod["status"].get("reason") if pod["status"].get("phase") == "Failed" else None
        if name in self._failed or not (evicted or (ended and ended["exitCode"])):
            return
        where = f"{NODE} {_number(pod, INDEX)}"
        if evicted:
            self._failed[name] = f"{where} lost its pod ({evicted}: {_line(pod['status'].get('message'))})"
        elif ended["reason"] == "OOMKilled":
            self._failed[name] = f"{where} needed more memory than it has (OOMKilled); raise cluster.memory"
        else:
            self._failed[name] = f"{where} exited with {ended['exitCode']}: {self._log.end(name)}"

    def _waits(self, pods: Sequence[State], suspended: bool) -> None:
        """Tell what it waits for, each time that this changes; end what waits for what won't come."""
        now = time.monotonic()
        what, hopeless = next(_reasons(pods), ("", False))
        if suspended:
            what = "waiting in its queue"
        elif not pods and now - self._began > 60:
            what = "without pods; " + (self._kube.warnings(self._name) or ["no event says why"])[-1]
        if what and what != self._waiting:
            tell(self._progress, self._name, what)
        if pods or what:  # at its deadline the pods are gone: what they waited for isn't forgotten then
            self._waiting = what
        self._stuck_since = (self._stuck_since or now) if hopeless else None
        if self._stuck_since is not None and now - self._stuck_since >= self._stuck:
            self._kube.delete_trainjob(self._name)
            raise ClusterError(f"TrainJob {self._name} deleted: {what}")


class _Log:
    """A pod's log, each line once: lines carry the time they were printed at."""

    def __init__(self, kube: Kube, progress: Progress) -> None:
        self._kube, self._progress = kube, progress
        self._pod, self._last, self._asked = "", "", 0.0

    def show(self, pod: str) -> None:
        """Print what is new."""
        if pod != self._pod:
            self._pod, self._last = pod, ""
        since = {"since_seconds": int(time.monotonic() - self._asked) + 30} if self._last else {"tail_lines": TAIL}
        self._asked = time.monotonic()
        try:
            text = self._kube.log(pod, NODE, timestamps=True, **since)
        except Absent:  # between two looks its pod was replaced
            return
        for line in text.splitlines():
            stamp, _, said = line.partition(" ")
            if stamp > self._last:
                self._last = stamp
                self._line(said)

    def _line(self, said: str) -> None:
        try:
            event = json.loads(said) if said.startswith('{"event": ') else None
        except ValueError:
            event = None
        if event is None:
            print(said, flush=True)
        else:
            self._progress.event(event.pop("event"), **{k: v for k, v in event.items() if k not in ("step", "time")})

    def end(self, pod: str) -> str:
        """The error that a pod's log ends with, else its last lines."""
        try:
            text = self._kube.log(pod, NODE, tail_lines=30)
        except Absent:
            return "its log is gone"
        lines = deque((line for line in text.splitlines() if line.strip()), maxlen=3)
        error = next((line for line in text.splitlines()[::-1] if line.startswith("error: ")), None)
        return _line(error.removeprefix("error: ") if error else " | ".join(lines) or "its log is empty")


def _reasons(pods: Sequence[State]) -> Iterator[tuple[str, bool]]:
    """What pods wait for, and whether that seldom ends by itself."""
    for pod in pods:
        where, waiting = f"{NODE} {_number(pod, INDEX)}", _container(pod)["state"].get("waiting", {})
        if waiting.get("reason") in STARTS_NOT:
            yield f"{where} can't start, {waiting['reason']}: {_line(waiting.get('message'))}", True
    for pod in pods:
        for condition in pod["status"].get("conditions", ()):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                yield f"{NODE} {_number(pod, INDEX)} waiting for a place: {_line(condition.get('message'))}", False


def _container(pod: State) -> State:
    """The status of a node's container; of a pod that has none yet, one without a state."""
    states = pod["status"].get("containerStatuses", ())
    return next((state for state in states if state["name"] == NODE), {"state": {}})


def _number(pod: State, label: str) -> int:
    return int(pod["metadata"].get("labels", {}).get(label, 0))


def _line(text: object) -> str:
    return " ".join(str(text or "").split())[:500]
