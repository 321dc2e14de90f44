"""A canary in both of KServe's modes: started, promoted, rolled back, and withdrawn when its probe fails."""

from collections.abc import Callable

import pytest

from tests.deployment.conftest import TEXT_RUN, World, champion, make_champion, version
from tests.kserve_server import Body, KServe
from zephyr import registry

Zephyr = Callable[..., TEXT_RUN]
MODES = pytest.mark.parametrize("mode", ["Standard", "Knative"])


def object_of(kserve: KServe) -> Body:
    return kserve.objects[("default", "zephyr")]


def parts(body: Body) -> list[int]:
    """The canary's traffic in percent, in either mode."""
    spec = body["spec"]
    found = [entry["trafficPercent"] for entry in spec.get("canary", ())]
    return found or [spec["predictor"][name] for name in ("canaryTrafficPercent",) if name in spec["predictor"]]


def weights(predictor: Body) -> str:
    uri: str = predictor["model"]["storageUri"]
    return uri


@pytest.fixture
def served(fresh: World, kserve: KServe, zephyr: Zephyr) -> Callable[[str], list[str]]:
    """Deploy version 1 in a mode, let version 2 pass; returns the arguments that start its canary."""

    def deploy(mode: str) -> list[str]:
        assert zephyr("deploy", "zephyr@champion", "--set", f"deploy.mode={mode}", "--set", "deploy.timeout=1")[0] == 0
        make_champion(2)
        # In Standard mode the canary has a Service of its own, which the test stands in for; in Knative mode its
        # revision's address is in the status.
        return ["canary", "start", "zephyr@2"] + (["--url", fresh.b_url] if mode == "Standard" else [])

    return deploy


@MODES
def test_start_and_promote(
    fresh: World, kserve: KServe, zephyr: Zephyr, served: Callable[[str], list[str]], mode: str
) -> None:
    start = served(mode)
    object_of(kserve)["spec"]["predictor"]["minReplicas"] = 3
    code, out, _ = zephyr(*start)
    assert code == 0 and "zephyr version 2: 10% of the traffic" in out and "6 of 6 golden completions" in out
    body = object_of(kserve)
    assert parts(body) == [10] and body["metadata"]["labels"]["zephyr/version"] == "1"
    assert [parts(stored) for stored in kserve.stored] == [[], [0], [10]]  # no traffic before the probe
    if mode == "Standard":
        canary = body["spec"]["canary"][0]["predictor"]
        assert (canary["name"], weights(canary)) == ("v2", fresh.b.uri)
        assert weights(body["spec"]["predictor"]) == fresh.a.uri
    else:
        assert weights(body["spec"]["predictor"]) == fresh.b.uri
        traffic = body["status"]["components"]["predictor"]["traffic"]
        assert [(part["percent"], part["url"]) for part in traffic] == [(10, fresh.b_url), (90, fresh.a_url)]
    assert version(2).tags["zephyr.canary"] == "10%" and "zephyr.endpoint" not in version(2).tags

    writes = list(kserve.writes)
    code, out, _ = zephyr(*start)
    assert code == 0 and "10% of the traffic, as before" in out and kserve.writes == writes
    assert zephyr(*start, "--percent", "50")[0] == 0
    assert parts(object_of(kserve)) == [50] and len(kserve.writes) == len(writes) + 1
    code, _, err = zephyr("deploy", "zephyr@champion")
    assert code == 2 and "version 2 is a canary with 50% of the traffic; end that first" in err

    code, out, _ = zephyr("canary", "promote", "zephyr")
    assert code == 0 and f"serves all traffic and is the champion: {fresh.b_url}/openai/v1" in out
    body = object_of(kserve)
    assert parts(body) == [] and weights(body["spec"]["predictor"]) == fresh.b.uri
    assert body["spec"]["predictor"]["minReplicas"] == 3  # scaling stays the stable predictor's
    assert (
        body["metadata"]["labels"]["zephyr/version"] == "2" and "zephyr/stable" not in body["metadata"]["annotations"]
    )
    assert champion() == "2" and version(2).tags["zephyr.endpoint"] == f"{fresh.b_url}/openai/v1"

    writes = list(kserve.writes)
    for again in (["canary", "promote", "zephyr"], ["canary", "rollback", "zephyr"]):
        code, out, _ = zephyr(*again)
        assert code == 0 and out == "zephyr: no canary; version 2 serves all traffic\n"
    code, out, _ = zephyr(*start)
    assert code == 0 and "version 2 serves all traffic already" in out
    code, out, _ = zephyr("deploy", "zephyr@champion", "--set", f"deploy.mode={mode}", "--set", "deploy.timeout=1")
    assert code == 0 and "version 2: unchanged" in out
    assert kserve.writes == writes


@MODES
def test_roll_back(fresh: World, kserve: KServe, zephyr: Zephyr, served: Callable[[str], list[str]], mode: str) -> None:
    start = served(mode)
    before = object_of(kserve)["spec"]["predictor"]
    assert zephyr(*start)[0] == 0 and champion() == "2"
    code, out, _ = zephyr("canary", "rollback", "zephyr")
    assert code == 0
    assert out == "zephyr version 2: rolled back; version 1 serves all traffic and is the champion again\n"
    body = object_of(kserve)
    expected = before if mode == "Standard" else before | {"canaryTrafficPercent": 0}
    assert body["spec"] == {"predictor": expected} and champion() == "1"
    assert version(2).tags["zephyr.canary"] == "rolled back"
    writes = list(kserve.writes)
    assert zephyr("canary", "rollback", "zephyr")[:2] == (0, "zephyr: no canary; version 1 serves all traffic\n")
    code, out, _ = zephyr("deploy", "zephyr@champion")
    assert code == 0 and "version 1: unchanged" in out and kserve.writes == writes
    # Another try starts where the first one did.
    assert zephyr(*start)[0] == 0 and parts(object_of(kserve)) == [10]
    assert zephyr("canary", "promote", "zephyr")[0] == 0 and champion() == "2"


def test_a_rollback_that_broke_off_is_finished(
    fresh: World, kserve: KServe, zephyr: Zephyr, served: Callable[[str], list[str]]
) -> None:
    assert zephyr(*served("Standard"))[0] == 0
    assert zephyr("canary", "rollback", "zephyr")[0] == 0
    registry.promote("zephyr", "2", "1")  # as if the registry had been down just then
    writes = list(kserve.writes)
    code, out, _ = zephyr("canary", "rollback", "zephyr")
    assert code == 0 and "is the champion again" in out and champion() == "1" and kserve.writes == writes


@MODES
def test_a_canary_that_fails_its_probe_is_withdrawn(
    fresh: World, kserve: KServe, zephyr: Zephyr, served: Callable[[str], list[str]], mode: str
) -> None:
    served(mode)
    before = object_of(kserve)["spec"]["predictor"]
    kserve.servers[fresh.b.uri] = fresh.a_url  # its server has other weights than it should
    wrong = ["--url", fresh.a_url] if mode == "Standard" else []
    code, _, err = zephyr("canary", "start", "zephyr@2", *wrong)
    assert code == 2 and err.count("\n") == 1
    assert "zephyr version 2: the canary is withdrawn: " in err and "another model, or another chat template" in err
    expected = before if mode == "Standard" else before | {"canaryTrafficPercent": 0}
    assert object_of(kserve)["spec"] == {"predictor": expected}
    assert all(set(parts(stored)) <= {0} for stored in kserve.stored)  # nobody ever met it
    assert champion() == "1" and version(2).tags["zephyr.canary"].startswith("withdrawn: ")


def test_from_outside_the_cluster_a_canary_waits_for_an_address(
    fresh: World, kserve: KServe, zephyr: Zephyr, served: Callable[[str], list[str]]
) -> None:
    """KServe calls its Service NAME-CANARY-predictor; only the cluster knows that name."""
    start = served("Standard")
    code, _, err = zephyr("canary", "start", "zephyr@2", "--percent", "10")
    assert code == 2 and err.count("\n") == 1
    assert "kubectl -n default port-forward service/zephyr-v2-predictor 8081:80" in err
    assert "--url http://127.0.0.1:8081" in err
    assert parts(object_of(kserve)) == [0] and "zephyr.canary" not in version(2).tags
    assert zephyr(*start)[0] == 0 and parts(object_of(kserve)) == [10]


def test_a_refused_version_keeps_its_settings(fresh: World, kserve: KServe, zephyr: Zephyr) -> None:
    registry.record_verdict("zephyr", "2", "pending", ["a person must approve it"])
    before = version(2).tags["zephyr.settings"]
    code, _, err = zephyr("deploy", "zephyr@2", "--set", "deploy.cpu=7")
    assert code == 2 and "waits for approval" in err
    assert version(2).tags["zephyr.settings"] == before


def test_a_canary_that_is_never_ready_is_withdrawn(
    fresh: World, kserve: KServe, zephyr: Zephyr, served: Callable[[str], list[str]]
) -> None:
    start = served("Standard")
    kserve.delay, kserve.failing = -1, "0/3 nodes are available"
    code, _, err = zephyr(*start, "--set", "deploy.timeout=1")
    assert code == 2 and "withdrawn: default/zephyr: not ready after 1 s" in err and "0/3 nodes are available" in err
    assert "canary" not in object_of(kserve)["spec"] and champion() == "1"


def test_the_next_canary_has_another_name(
    fresh: World, kserve: KServe, zephyr: Zephyr, served: Callable[[str], list[str]]
) -> None:
    """After a promotion the stable predictor keeps the canary's name, which KServe lets no other one have."""
    start = served("Standard")
    assert zephyr(*start)[0] == 0 and zephyr("canary", "promote", "zephyr")[0] == 0
    assert object_of(kserve)["spec"]["predictor"]["name"] == "v2"
    make_champion(1)
    assert zephyr("deploy", "zephyr@champion")[0] == 0
    assert object_of(kserve)["spec"]["predictor"]["name"] == "v2"  # a rolling update, not new pods under a new name
    make_champion(2)
    assert zephyr(*start)[0] == 0
    assert object_of(kserve)["spec"]["canary"][0]["predictor"]["name"] == "v2b"


def test_refusals(fresh: World, kserve: KServe, zephyr: Zephyr) -> None:
    def refused(wanted: str, *arguments: str) -> None:
        code, _, err = zephyr("canary", *arguments)
        assert code == 2 and err.count("\n") == 1 and wanted in err

    refused("waits for approval; zephyr approve zephyr@2", "start", "zephyr@candidate")
    refused("nothing is deployed; zephyr deploy zephyr@champion", "start", "zephyr@champion")
    refused("nothing is deployed; zephyr deploy zephyr@champion", "promote", "zephyr")
    refused("nothing is deployed; zephyr deploy zephyr@champion", "rollback", "zephyr")
    for percent in ("0", "100"):
        refused(f"--percent {percent}: 1 to 99", "start", "zephyr@champion", "--percent", percent)
    assert kserve.writes == []

    assert zephyr("deploy", "zephyr@champion")[0] == 0
    registry.record_verdict("zephyr", "2", "passed", ["good"])
    assert zephyr("canary", "start", "zephyr@2", "--url", fresh.b_url)[0] == 0
    assert champion() == "1"
    object_of(kserve)["spec"]["canary"][0]["predictor"]["labels"]["zephyr/version"] = "9"
    refused("version 9 is a canary already; end it first", "start", "zephyr@2", "--url", fresh.b_url)
    refused("zephyr version 9: is on the cluster, but not in this registry", "promote", "zephyr")
    object_of(kserve)["spec"]["canary"][0]["predictor"]["labels"]["zephyr/version"] = "2"
    registry.record_verdict("zephyr", "2", "failed", ["score 3.00 is below 6"])
    refused("didn't pass its gate", "promote", "zephyr")
    assert champion() == "1" and parts(object_of(kserve)) == [10]
