"""A version beside the one that serves: it is probed before it gets its part of the traffic, then kept or withdrawn.

In Standard mode it is an entry of `spec.canary`, with a Deployment and a Service of its own. In Knative mode it takes
the predictor's place as a new revision, and `canaryTrafficPercent` leaves the rest with the revision before; the
predictor to go back to waits in an annotation.
"""

import json
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from zephyr import registry
from zephyr.cluster.kube import in_pod
from zephyr.errors import ClusterError, EndpointError
from zephyr.sections import Deploy
from zephyr.serve.deployment import (
    STABLE,
    Place,
    admit,
    canary_of,
    check_ours,
    examine,
    keep,
    observed,
    section_of,
    settle,
    wait,
)
from zephyr.serve.manifest import SPEC, Body, fingerprint, holds, kept, mode_of, predictor, version_of

TAGS = "serving.kserve.io/enable-tag-routing"
"""Annotation: in Knative mode each revision gets an address of its own."""
WITHDRAWN = "zephyr/withdrawn"
"""Annotation: the version of the last canary that was rolled back."""


class Unreachable(ClusterError):
    """The canary's own address leads there from inside the cluster only."""


def start(version: Any, section: Deploy, place: Place, percent: int) -> str:
    """Give a version that passed its gate a part of the traffic, after its probe; returns what was done, in words.

    Raises ClusterError when it may not serve, another canary runs, or its probe fails: it is withdrawn then. From
    outside the cluster it stays without traffic until it is started again with a URL that leads to it.
    """
    admit(version)
    name, number = version.name, str(version.version)

    def enter(found: Body, part: int | None) -> Body:
        check_ours(found)
        running = canary_of(found)
        if running and running[0] != number:
            raise ClusterError(
                f"{name}: version {running[0]} is a canary already; end it first: zephyr canary promote {name}, or "
                "rollback"
            )
        return _with(found, version, section, part)

    found, _ = place.cluster.edit(name, lambda found: found if _serves(found, number) else enter(found, None))
    if _serves(found, number):
        return f"{name} version {number} serves all traffic already"
    place.tell(f"{name} version {number}: waiting for its own server, without traffic")
    try:
        found = wait(name, section, place, lambda found: _address(found) is not None)
        address = _address(found) or ""
        if place.url is None and not in_pod() and mode_of(found) == "Standard":
            service = urlsplit(address).netloc.partition(".")[0]
            raise Unreachable(
                f"{name} version {number}: is up, without traffic, and has to be probed, but nothing leads there from "
                f"here: run kubectl -n {place.cluster.namespace} port-forward service/{service} 8081:80, and this "
                "command again with --url http://127.0.0.1:8081"
            )
        examine(place.url or address, version, section, place)
    except Unreachable:
        raise
    except (ClusterError, EndpointError) as error:
        reason = f"withdrawn: {error}"
        _withdraw(name, place, reason)
        raise ClusterError(f"{name} version {number}: the canary is {reason}") from None
    _, written = place.cluster.edit(name, lambda found: enter(found, percent))
    wait(name, section, place, lambda found: _address(found) is not None)
    keep(version, section)
    registry.tag(version, {"zephyr.canary": f"{percent}%"})
    return f"{name} version {number}: {percent}% of the traffic{'' if written else ', as before'}"


def promote(name: str, place: Place) -> str:
    """Let the canary serve all traffic and be the registry's champion; returns what was done, in words."""
    found = place.cluster.get(name)
    running = canary_of(found) if found else None
    if found is None or running is None:
        return _none(name, found)
    check_ours(found)
    version = _registered(name, running[0])
    admit(version)
    champion = registry.champion(name)
    registry.promote(name, running[0], champion["version"] if champion else None)

    def change(found: Body) -> Body:
        if canary_of(found) is None:
            return found
        chosen = _canary(found) | kept(found)
        chosen.pop("canaryTrafficPercent", None)
        meta = found["metadata"]
        annotations = {k: v for k, v in meta["annotations"].items() if k not in (STABLE, WITHDRAWN)}
        return found | {
            "metadata": meta
            | {"labels": meta["labels"] | chosen["labels"], "annotations": annotations | chosen["annotations"]},
            "spec": {k: v for k, v in found["spec"].items() if k != "canary"} | {"predictor": chosen},
        }

    place.cluster.edit(name, change)
    registry.tag(version, {"zephyr.canary": "promoted"})
    endpoint = settle(version, section_of(version), place, replaced=True)
    return f"{name} version {running[0]} serves all traffic and is the champion: {endpoint}"


def rollback(name: str, place: Place) -> str:
    """Take the canary away; the version that serves is the champion again, if the canary was."""
    found = place.cluster.get(name)
    if found is None or (canary_of(found) is None and not _unfinished(found)):
        return _none(name, found)
    check_ours(found)
    return _withdraw(name, place, "rolled back")


def _withdraw(name: str, place: Place, reason: str) -> str:
    def change(found: Body) -> Body:
        running = canary_of(found)
        if running is None:
            return found
        meta = found["metadata"]
        annotations = {k: v for k, v in meta["annotations"].items() if k != STABLE} | {WITHDRAWN: running[0]}
        spec = {k: v for k, v in found["spec"].items() if k != "canary"}
        if STABLE in meta["annotations"]:  # 0 pins all traffic to the revision before, at once
            spec["predictor"] = json.loads(meta["annotations"][STABLE]) | {"canaryTrafficPercent": 0}
        return found | {"metadata": meta | {"annotations": annotations}, "spec": spec}

    found, _ = place.cluster.edit(name, change)
    gone, serves = found["metadata"]["annotations"][WITHDRAWN], version_of(found["metadata"])
    champion = registry.champion(name)
    again = champion is not None and champion["version"] == gone
    if again:
        registry.promote(name, serves, gone)
    registry.tag(_registered(name, gone), {"zephyr.canary": reason[:1000]})
    return (
        f"{name} version {gone}: {reason}; version {serves} serves all traffic"
        f"{' and is the champion again' if again else ''}"
    )


def _unfinished(found: Body) -> bool:
    """Whether a canary was taken away, but the registry still calls it the champion."""
    gone = found["metadata"].get("annotations", {}).get(WITHDRAWN)
    champion = registry.champion(found["metadata"]["name"])
    return gone is not None and champion is not None and champion["version"] == gone


def _none(name: str, found: Body | None) -> str:
    if found is None:
        raise ClusterError(f"{name}: nothing is deployed; zephyr deploy {name}@champion")
    return f"{name}: no canary; version {version_of(found['metadata'])} serves all traffic"


def _serves(found: Body, number: str) -> bool:
    return version_of(found["metadata"]) == number and canary_of(found) is None


def _registered(name: str, number: str) -> Any:
    version = registry.version_at(name, number)
    if version is None:
        raise ClusterError(f"{name} version {number}: is on the cluster, but not in this registry")
    return version


def _with(found: Body, version: Any, section: Deploy, percent: int | None) -> Body:
    """The InferenceService with the version as its canary; None leaves the traffic of one that is there already."""
    spec = predictor(version, section)
    spec["annotations"] = spec["annotations"] | {SPEC: fingerprint(spec)}  # promotion takes it over
    meta = found["metadata"]
    annotations = {k: v for k, v in meta["annotations"].items() if k != WITHDRAWN}
    running = canary_of(found)
    if running and holds(_canary(found), spec):  # the server's defaults stay in it
        spec, percent = _canary(found), running[1] if percent is None else percent
    if mode_of(found) == "Standard":
        stable, own = found["spec"]["predictor"].get("name"), f"v{version.version}"
        # One replica: KServe would derive none from 0%.
        spec = {"name": own + "b" if own == stable else own, "minReplicas": 1} | spec
        changed: Body = {"canary": [{"trafficPercent": percent or 0, "predictor": spec}]}
    else:
        annotations = {STABLE: json.dumps(found["spec"]["predictor"]), **annotations, TAGS: "true"}
        changed = {"predictor": kept(found) | spec | {"canaryTrafficPercent": percent or 0}}
    return found | {"metadata": meta | {"annotations": annotations}, "spec": found["spec"] | changed}


def _canary(found: Body) -> Body:
    """The canary's predictor."""
    entries = found["spec"].get("canary")
    return dict(entries[0]["predictor"] if entries else found["spec"]["predictor"])


def _address(found: Body) -> str | None:
    """Where the canary's own server answers, None until it is ready."""
    if not observed(found):
        return None
    status = found["status"]
    if found["spec"].get("canary"):
        name = found["spec"]["canary"][0]["predictor"]["name"]
        if not any(canary["name"] == name and canary["ready"] for canary in status.get("canaryStatuses", ())):
            return None
        parts = urlsplit(status.get("address", {}).get("url") or status["url"])
        host = f"{found['metadata']['name']}-{name}-predictor.{parts.netloc.partition('.')[2]}"
        return str(urlunsplit(parts._replace(netloc=host)))
    component: Body = status.get("components", {}).get("predictor", {})
    if component.get("latestCreatedRevision") != component.get("latestReadyRevision"):
        return None
    urls = (str(part["url"]) for part in component.get("traffic", ()) if part.get("latestRevision") and part.get("url"))
    return next(urls, None)
