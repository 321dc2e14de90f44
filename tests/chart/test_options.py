"""The chart's defaults and every documented option."""

import pytest

from tests.chart.options import CASES, Case
from tests.chart.rendering import CHART, at, notes, render
from tools.chart import options


def test_the_defaults_suit_a_bare_cluster() -> None:
    """Only kinds that every cluster has, no hook but the test, one volume."""
    found = render()
    assert sorted(found) == [
        "ConfigMap/zephyr-platform",
        "Deployment/zephyr-mlflow",
        "Deployment/zephyr-tiny",
        "PersistentVolumeClaim/zephyr-mlflow",
        "Pod/zephyr-doctor",
        "Role/zephyr-runner",
        "RoleBinding/zephyr-runner",
        "Service/zephyr-mlflow",
        "Service/zephyr-tiny",
        "ServiceAccount/zephyr-mlflow",
        "ServiceAccount/zephyr-runner",
        "ServiceAccount/zephyr-serving",
    ]
    assert found["ConfigMap/zephyr-platform"]["data"] == {
        "MLFLOW_TRACKING_URI": "http://zephyr-mlflow.team.svc:5000",
        "ZEPHYR_TINY_URL": "http://zephyr-tiny.team.svc:8800",
        "ZEPHYR_DEPLOYMENT_MODE": "Standard",
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_option_does_what_it_says(case: Case) -> None:
    if case.resource == "notes":
        assert case.expected in notes(case.values)
        assert case.expected not in notes(case.beside)
        return
    found = render(case.values).get(case.resource)
    if not case.path:
        assert found is None
        return
    assert found is not None
    seen = at(found, case.path)
    if case.option == "mlflow.extraAllowedHosts":
        assert seen.endswith(case.expected)
    else:
        assert seen == case.expected


def test_every_documented_option_is_tried_and_every_option_is_documented() -> None:
    documented = [option for option, _ in options((CHART / "values.yaml").read_text())]
    assert sorted({case.option for case in CASES}) == sorted(documented)


# Without these, or with them alone, the chart is refused; and `disabled` is what `auto` does here.
FIXED = ("mlflow.url", "mlflow.mode", "mlflow.postgres.existingSecret", "s3.credentials")
VISIBLE = [case for case in CASES if case.value != "disabled" and not case.option.startswith(FIXED)]


@pytest.mark.parametrize("case", [case for case in VISIBLE if case.resource != "notes"], ids=str)
def test_without_the_option_it_is_otherwise(case: Case) -> None:
    """Otherwise the test above would pass whatever the option does."""
    found = render(case.beside).get(case.resource)
    assert (at(found, case.path) if found and case.path else found) != case.expected
