"""Several nodes: the step's pod, which has no GPU, submits a Kubeflow TrainJob, follows it, and fetches what it made.

The TrainJob is called after step and key, so a step that runs again finds its own: one that runs is followed, one
that failed is deleted and submitted anew, and then resumes from the last checkpoint. node.py is what its pods run.
"""

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zephyr import workspace
from zephyr.artifacts import Store, open_store
from zephyr.cluster.kube import Kube, connect, in_pod, said
from zephyr.cluster.platform import ADDRESSES, KEYS, STEP_LABEL
from zephyr.errors import ClusterError, first_line
from zephyr.progress import Progress
from zephyr.recipe import Recipe
from zephyr.train import arguments
from zephyr.train.job import Job
from zephyr.train.nodes import node
from zephyr.train.nodes.followed import Following
from zephyr.train.nodes.following import EVERY, NODE, follow, tell

if TYPE_CHECKING:
    from kubeflow.trainer.backends.kubernetes.backend import KubernetesBackend

DEADLINE = 7 * 24 * 3600
"""Seconds after which a TrainJob is ended, waiting included; as long as a step may take."""
QUEUE = "kueue.x-k8s.io/queue-name"
"""The label by which Kueue knows what it starts all at once, or not yet."""
GONE = 600.0
"""Seconds that a deleted TrainJob may take to end its pods."""


def wanted(recipe: Recipe) -> bool:
    """Whether a training takes several nodes: the recipe says so, and this is a pod of a pipeline's step."""
    return recipe.cluster.nodes > 1 and in_pod() and not workspace.owned()


def train(job: Job, progress: Progress, every: float = EVERY) -> dict[str, float]:
    """Train on the recipe's nodes; the model lies in `job.out` then. Returns the figures of the training.

    Raises ClusterError, in one line, when there is no TrainingRuntime, or with the reason why the TrainJob failed.
    A step that is cancelled (SIGTERM, Ctrl-C) deletes its TrainJob, whose pods then save a checkpoint and end.
    """
    arguments.check(job, job.recipe.cluster.nodes * job.recipe.cluster.gpus)
    store = open_store(job.store, job.cache)
    if not node.delivered(store, job):
        _run(store, job, progress, every)
        if not node.delivered(store, job):
            raise ClusterError(f"TrainJob {name_of(job)} is complete, but {job.store} lacks what its pods made")
    return node.collect(store, job)


def name_of(job: Job) -> str:
    return f"zephyr-{job.step.replace('_', '-')}-{job.key[:12]}"


def _run(store: Store, job: Job, progress: Progress, every: float) -> None:
    kube, name = connect(), name_of(job)
    following = Following(store, job)
    following.mark()
    try:
        with _terminable():
            _begin(kube, job, progress, every)
            why = follow(kube, name, progress, following.mark, every)
    except (KeyboardInterrupt, SystemExit):
        kube.delete_trainjob(name)
        tell(progress, name, "deleted, because the step was cancelled")
        raise
    if why is not None:
        raise ClusterError(f"TrainJob {name} {why}")
    kube.delete_trainjob(name)


def _begin(kube: Kube, job: Job, progress: Progress, every: float) -> None:
    """Find the running TrainJob of this key, or submit one."""
    pool, name = job.recipe.cluster, name_of(job)
    found = kube.trainer("trainjobs", name)
    if found and not _ended(found):
        tell(progress, name, "is there already, and is followed")
        return
    if found:
        kube.delete_trainjob(name)
        until = time.monotonic() + GONE
        while kube.trainer("trainjobs", name):
            if time.monotonic() > until:
                raise ClusterError(f"TrainJob {name}: deleted, but still there: kubectl get trainjob {name} -o yaml")
            time.sleep(every)
    if kube.trainer("trainingruntimes", pool.training_runtime) is None:
        raise ClusterError(
            f"no TrainingRuntime {pool.training_runtime} in namespace {kube.namespace}: install Kubeflow Trainer, and "
            "upgrade the chart, which makes it; or set cluster.nodes=1"
        )
    _submit(kube, job, progress.run)
    tell(progress, name, f"submitted, {pool.nodes} nodes with {pool.gpus} of {pool.gpu_type} each")


def _ended(found: Mapping[str, Any]) -> bool:
    """Whether it is over or about to be deleted."""
    conditions = found.get("status", {}).get("conditions", ())
    over = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
    return over or "deletionTimestamp" in found["metadata"]


def _submit(kube: Kube, job: Job, run: str) -> None:
    from kubernetes.client.exceptions import ApiException

    backend, types, options = _sdk(kube, job)
    pool = job.recipe.cluster
    labels = {STEP_LABEL: job.step, "app.kubernetes.io/part-of": "zephyr"}
    trainer = types.CustomTrainerContainer(
        image=pool.training_image or "",  # the TrainingRuntime's, where none is given
        num_nodes=pool.nodes,
        resources_per_node={pool.gpu_type: str(pool.gpus), "cpu": pool.cpu, "memory": pool.memory},
        env=_environment(job, run),
    )
    pod = options.PodSpecPatch(
        node_selector=dict(pool.node_selector) or None, tolerations=[dict(t) for t in pool.tolerations] or None
    )
    template = options.JobTemplatePatch(
        spec=options.JobSpecPatch(template=options.PodTemplatePatch(metadata={"labels": labels}, spec=pod))
    )
    jobs = options.JobSetSpecPatch(replicated_jobs=[options.ReplicatedJobPatch(name=NODE, template=template)])
    patch = options.TrainingRuntimeSpecPatch(template=options.JobSetTemplatePatch(spec=jobs))
    wanted = [
        options.Name(name_of(job)),
        options.Labels(labels | ({QUEUE: pool.queue} if pool.queue else {})),
        options.ActiveDeadlineSeconds(DEADLINE),
        options.TrainerCommand(["python", "-m", "zephyr.train.nodes.node"]),
        options.RuntimePatch(patch),
    ]
    try:
        backend.train(runtime=pool.training_runtime, trainer=trainer, options=wanted)
    except (RuntimeError, TimeoutError) as error:  # what the SDK makes of every trouble
        cause = error.__cause__
        if isinstance(cause, ApiException) and cause.status == 409:
            return  # submitted by another run of the same step in this moment
        why = f"{cause.status} {said(cause)[0]}" if isinstance(cause, ApiException) else first_line(cause or error)
        raise ClusterError(f"namespace {kube.namespace}: can't create TrainJob {name_of(job)}: {why}") from None


def _environment(job: Job, run: str) -> dict[str, str]:
    """What the pods need: the job, the platform's addresses, the step's own run in MLflow."""
    names = (*ADDRESSES, "MLFLOW_EXPERIMENT_ID", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    found = {name: os.environ[name] for name in names if name in os.environ}
    return found | {node.JOB: node.travelling(job), node.RUN: run}


def _sdk(kube: Kube, job: Job) -> tuple["KubernetesBackend", Any, Any]:
    """kubeflow's SDK: its Kubernetes backend, its types and its options."""
    logging.getLogger("kubeflow").setLevel(logging.ERROR)  # it looks for a ConfigMap of another namespace
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydantic, about how the SDK is written
        from kubeflow.common.types import KubernetesBackendConfig
        from kubeflow.trainer import options
        from kubeflow.trainer.backends.kubernetes.backend import KubernetesBackend
        from kubeflow.trainer.types import types
        from kubeflow_trainer_api import models

    secrets = job.recipe.cluster.secrets
    kept = {"s3": secrets.s3, "mlflow": secrets.mlflow, "hf": secrets.hf}
    keys = [(key, secret) for name, secret in kept.items() for key in KEYS[name]]

    class Backend(KubernetesBackend):
        def _get_trainjob_spec(self, *given: Any, **named: Any) -> Any:
            """The SDK's spec, with what it has no words for: keys from Secrets, and CPUs without a limit.

            A runtimePatch can't bring the keys: Trainer refuses variables of the container `node` there.
            """
            spec = super()._get_trainjob_spec(*given, **named)
            spec.trainer.resources_per_node.limits.pop("cpu", None)
            spec.trainer.env += [
                models.IoK8sApiCoreV1EnvVar.from_dict(
                    {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
                )
                for key, secret in keys
            ]
            return spec

    settings = KubernetesBackendConfig(namespace=kube.namespace, client_configuration=kube.api.configuration)
    return Backend(settings), types, options


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises SystemExit, as Ctrl-C raises KeyboardInterrupt."""
    old = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
