"""A champion becomes an endpoint: written to the cluster, waited for, probed, and written back to the registry."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from zephyr import registry
from zephyr.cluster.kube import in_pod
from zephyr.errors import ClusterError, EndpointError, RecipeError
from zephyr.recipe import overridden
from zephyr.sections import Deploy
from zephyr.serve.kube import Cluster
from zephyr.serve.manifest import Body, holds, inference_service, merged, mode_of, ours, version_of
from zephyr.serve.probe import Mismatch, probe

Tell = Callable[[str], None]
EVERY = 2.0
"""Seconds between two looks at the cluster."""
_ROUTES = 60.0
"""Seconds that a route may take to lead to pods that are ready."""


@dataclass(frozen=True)
class Place:
    """Where to deploy, and how to tell and to wait."""

    cluster: Cluster
    tell: Tell
    url: str | None = None
    """Where to probe instead of the address in the status, such as a port-forward: http://127.0.0.1:8080."""
    every: float = EVERY


def section_of(version: Any, overrides: Sequence[str] = ()) -> Deploy:
    """The version's own settings of deployment, from its recipe or from when it was last deployed, and overrides."""
    settings = registry.settings(version)
    foreign = [override for override in overrides if not override.startswith("deploy.")]
    if foreign:
        raise RecipeError(f"--set {foreign[0]}: only deploy.… can be set here")
    changed = overridden(settings, overrides)
    try:
        section = Deploy.model_validate(changed["deploy"])
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(["deploy", *map(str, problem["loc"])])
        raise RecipeError(f"{where}: {problem['msg'].removeprefix('Value error, ')}") from None
    return section


def keep(version: Any, section: Deploy) -> None:
    """Keep the settings that it serves with on the version; those that are there already aren't written again."""
    settings = registry.settings(version)
    now = settings | {"deploy": section.model_dump(mode="json")}
    if now != settings:
        registry.tag(version, {"zephyr.settings": json.dumps(now)})


def admit(version: Any) -> None:
    """Raise ClusterError for a version that may not serve anybody, and say what to do."""
    who = f"{version.name} version {version.version}"
    verdict = version.tags.get("zephyr.verdict")
    if verdict == "pending":
        raise ClusterError(f"{who}: waits for approval; zephyr approve {version.name}@{version.version} --note WHY")
    if verdict != "passed":
        why = version.tags.get("zephyr.reasons", "no gate has judged it")
        raise ClusterError(f"{who}: didn't pass its gate, so it isn't deployed: {why}")
    uri = version.tags["zephyr.uri"]
    if not uri.startswith("s3://"):
        raise ClusterError(f"{who}: its weights lie at {uri}, where a cluster can't read; set store: s3://… and run")


def deploy(version: Any, section: Deploy, place: Place) -> str:
    """Create or update the InferenceService of the champion, and see that it serves; returns its endpoint.

    What is there already isn't written again. Raises ClusterError when the version may not be deployed, the cluster
    refuses, it isn't ready in time, or it doesn't serve this model.
    """
    admit(version)
    champion = registry.version_at(version.name, "champion")
    if champion is None or champion.version != version.version:
        now = champion.version if champion else "none"
        raise ClusterError(
            f"{version.name} version {version.version}: isn't the champion ({now} is); try it beside the champion with "
            f"zephyr canary start {version.name}@{version.version}"
        )
    name, cluster = version.name, place.cluster
    found, change = cluster.get(name), "created"
    if found is None:
        found = cluster.create(inference_service(version, section, cluster.namespace))
    else:

        def update(found: Body) -> Body:
            _check_free(found)
            wanted = inference_service(version, section, cluster.namespace, mode_of(found))
            return found if holds(found, wanted) else merged(found, wanted)

        found, written = cluster.edit(name, update)
        change = "updated" if written else "unchanged"
    place.tell(f"InferenceService {cluster.namespace}/{name}, version {version.version}: {change}")
    return settle(version, section, place, replaced=change == "updated")


def _check_free(found: Body) -> None:
    check_ours(found)
    running = canary_of(found)
    if running:
        name, (version, percent) = found["metadata"]["name"], running
        raise ClusterError(
            f"{name}: version {version} is a canary with {percent}% of the traffic; "
            f"end that first: zephyr canary promote {name}, or rollback"
        )


def check_ours(found: Body) -> None:
    if not ours(found):
        meta = found["metadata"]
        raise ClusterError(
            f"{meta.get('namespace')}/{meta['name']}: an InferenceService of this name is there, and not from Zephyr; "
            "choose another register.name or deploy.namespace"
        )


def canary_of(found: Body) -> tuple[str, int] | None:
    """The canary's version and its part of the traffic in percent, None where there is none."""
    if found["spec"].get("canary"):
        entry = found["spec"]["canary"][0]
        return version_of(entry["predictor"]), int(entry["trafficPercent"])
    if STABLE in found["metadata"].get("annotations", {}):
        stable = found["spec"]["predictor"]
        return version_of(stable), int(stable.get("canaryTrafficPercent", 0))
    return None


STABLE = "zephyr/stable"
"""Annotation in Knative mode: the predictor to go back to while a canary stands in its place."""


def settle(version: Any, section: Deploy, place: Place, replaced: bool) -> str:
    """Wait until it is ready, probe it, write its endpoint on the version; returns that.

    `replaced`: pods of another version may still answer for a while.
    """
    found = wait(version.name, section, place, ready)
    status = found["status"]
    inside = status.get("address", {}).get("url") if in_pod() else None
    examine(place.url or inside or status["url"], version, section, place, section.timeout if replaced else 0.0)
    endpoint = _routes(str(status["url"]), section)
    keep(version, section)
    registry.record_endpoint(version, endpoint)
    return endpoint


def _routes(address: str, section: Deploy) -> str:
    """Where the OpenAI routes of a server at that address begin."""
    return address.rstrip("/") + (section.base_path or ("/v1" if section.runtime == "vllm" else "/openai/v1"))


def examine(address: str, version: Any, section: Deploy, place: Place, patience: float = 0.0) -> None:
    """Probe the server at an address; for `patience` seconds another model's answer isn't held against it."""
    golden = json.loads(version.tags["zephyr.golden"]) if "zephyr.golden" in version.tags else None
    exact = golden is not None and golden["dtype"] == "float32" and section.runtime == "zephyr" and not section.gpus
    began = time.monotonic()
    routes = min(_ROUTES, section.timeout)
    while True:
        try:
            place.tell(f"probe: {probe(_routes(address, section), version.name, golden, exact)}")
            return
        except EndpointError as error:
            left = (patience if isinstance(error, Mismatch) else max(patience, routes)) - (time.monotonic() - began)
            if left <= 0:
                raise
            place.tell(f"asked too early, or {error}")
        time.sleep(place.every)


def wait(name: str, section: Deploy, place: Place, done: Callable[[Body], bool]) -> Body:
    """Look at the InferenceService until it is done; tells what it waits for. ClusterError when the time is up."""
    deadline = time.monotonic() + section.timeout
    said = ""
    while True:
        found = place.cluster.get(name)
        if found is None:
            raise ClusterError(f"{place.cluster.namespace}/{name}: somebody deleted it meanwhile")
        if done(found):
            return found
        state = state_of(found)
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{place.cluster.namespace}/{name}: not ready after {section.timeout} s (deploy.timeout): {state}; "
                f"look at kubectl describe inferenceservice {name}, and at its pods' logs"
            )
        if state != said:
            place.tell(f"waiting: {state}")
            said = state
        time.sleep(place.every)


def ready(found: Body) -> bool:
    """Ready, as of the body that was written last, and reachable."""
    conditions = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions", ())}
    return observed(found) and conditions.get("Ready") == "True" and bool(found["status"].get("url"))


def observed(found: Body) -> bool:
    """Whether the status is about the newest body."""
    return int(found.get("status", {}).get("observedGeneration", 0)) >= int(found["metadata"].get("generation", 1))


def state_of(found: Body) -> str:
    """Why it isn't ready, in words: the conditions that aren't true, and what failed in the model's container."""
    status = found.get("status", {})
    if not status:
        return "no controller has taken it up yet"
    said = [
        f"{c['type']}: {c.get('message') or c.get('reason') or c['status']}"
        for c in status.get("conditions", ())
        if c["status"] != "True"
    ]
    models = [status.get("modelStatus", {}), *(c.get("modelStatus", {}) for c in status.get("canaryStatuses", ()))]
    said += [m["lastFailureInfo"].get("message", "") for m in models if m.get("lastFailureInfo")]
    return "; ".join(" ".join(text.split()) for text in said if text) or "its status is not up to date yet"
