"""Register, gate, deploy, report."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Model, Output

from zephyr.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], dpo_model: Input[Model], scores: Input[Dataset], version: Output[Artifact]
):
    """Make a version in the model registry, with all that made it; alias `candidate`.

    Args:
        recipe: The resolved recipe.
        dpo_model: The aligned model.
        scores: Its evaluation.
        version: version.json.
    """
    from zephyr.execute import execute

    execute("register", recipe.path, {"dpo_model": dpo_model.path, "scores": scores.path}, version)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def gate(recipe: Input[Artifact], version: Input[Artifact], scores: Input[Dataset]) -> str:
    """Decide whether the version may be deployed: passed, failed or pending; passed moves `champion`.

    Args:
        recipe: The resolved recipe.
        version: The registered version.
        scores: Its evaluation.
    """
    from zephyr.execute import execute

    return execute("gate", recipe.path, {"version": version.path, "scores": scores.path}, None)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(recipe: Input[Artifact], version: Input[Artifact], service: Output[Artifact]):  # type: ignore[no-untyped-def]
    """Write the InferenceService of the version.

    Args:
        recipe: The resolved recipe.
        version: The registered version, which passed its gate.
        service: inferenceservice.yaml.
    """
    from zephyr.execute import execute

    execute("deploy", recipe.path, {"version": version.path}, service)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(run_id: str, page: Output[HTML]):  # type: ignore[no-untyped-def]
    """Say what happened, also after a failure.

    Args:
        run_id: The run's name in the tracking server and the store.
        page: report.html.
    """
    from zephyr.execute import execute

    execute("report", "", {}, page, run_id=run_id)


if __name__ == "__main__":  # python -m components.release.component
    from pipelines.compile import export

    export("release")
