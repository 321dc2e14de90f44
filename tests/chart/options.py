"""Every option of the chart with a value other than its default, and what must become of it."""

from dataclasses import dataclass, field
from typing import Any

from tests.chart.rendering import merged, nested

TINY = "Deployment/zephyr-tiny"
MLFLOW = "Deployment/zephyr-mlflow"
PLATFORM = "ConfigMap/zephyr-platform"
SECRET = "Secret/zephyr-s3"
CONTAINER = "spec:template:spec:containers:0"
DIGEST = "sha256:" + "ab" * 32
RESOURCES = {"requests": {"cpu": "3", "memory": "5Gi"}, "limits": {"memory": "6Gi"}}


@dataclass(frozen=True)
class Case:
    """An option's value, beside which others, and what is then at `path` of `resource` (None: the resource is gone)."""

    option: str
    value: Any
    resource: str
    path: str
    expected: Any
    beside: dict[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        return merged(self.beside, nested(self.option, self.value))

    def __str__(self) -> str:
        return f"{self.option}={self.value}"[:60]


KEYS = {"s3": {"credentials": {"accessKeyId": "key", "secretAccessKey": "secret"}}}
STORE = {"s3": {"bucket": "models"}}
UPLOAD = {"kfp": {"endpoint": "http://kfp:8888"}}
MONITOR = {"serviceMonitor": {"enabled": "enabled"}}
POLICY = {"networkPolicy": {"enabled": True}}
EXTERNAL = {"mlflow": {"mode": "external"}}
POSTGRES = {"mlflow": {"mode": "postgres", "postgres": {"existingSecret": "database"}}}
RUNTIME = "ServingRuntime/zephyr-cpu"
NODES = "TrainingRuntime/zephyr-training"
NODE = "spec:template:spec:replicatedJobs:0:template:spec:template:spec"
TRAINER = {"trainingRuntime": {"enabled": "enabled"}}
PIPELINES = {"pipeline": {"customResource": "enabled"}}
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}
TOLERATION = {"key": "pool", "operator": "Equal", "value": "cpu", "effect": "NoSchedule"}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "arch", "operator": "In", "values": ["amd64"]}]}]
        }
    }
}
OWN, TRAIN = "zephyr-mlops/zephyr:0.1.0", "zephyr-mlops/zephyr-train:0.1.0"

CASES = [
    Case("image.registry", "r.example.com", TINY, f"{CONTAINER}:image", f"r.example.com/{OWN}"),
    Case("image.repository", "team/zephyr", TINY, f"{CONTAINER}:image", "team/zephyr:0.1.0"),
    Case("image.tag", "dev", MLFLOW, f"{CONTAINER}:image", "zephyr-mlops/zephyr:dev"),
    Case("image.digest", DIGEST, "Pod/zephyr-doctor", "spec:containers:0:image", f"zephyr-mlops/zephyr@{DIGEST}"),
    Case("image.pullPolicy", "Always", TINY, f"{CONTAINER}:imagePullPolicy", "Always"),
    Case("image.pullSecrets", ["reg"], "ServiceAccount/zephyr-runner", "imagePullSecrets", [{"name": "reg"}]),
    Case("trainImage.registry", "r.example.com", "notes", "", f"ZEPHYR_TRAIN_IMAGE=r.example.com/{TRAIN}\n"),
    Case("trainImage.repository", "team/train", "notes", "", "ZEPHYR_TRAIN_IMAGE=team/train:0.1.0\n"),
    Case("trainImage.tag", "dev", "notes", "", "ZEPHYR_TRAIN_IMAGE=zephyr-mlops/zephyr-train:dev\n"),
    Case("trainImage.digest", DIGEST, "notes", "", f"ZEPHYR_TRAIN_IMAGE=zephyr-mlops/zephyr-train@{DIGEST}\n"),
    Case("commonLabels", {"team": "ml"}, TINY, "spec:template:metadata:labels:team", "ml"),
    Case("podAnnotations", {"note": "x"}, TINY, "spec:template:metadata:annotations", {"note": "x"}),
    Case("nodeSelector", {"pool": "cpu"}, MLFLOW, "spec:template:spec:nodeSelector", {"pool": "cpu"}),
    Case("tolerations", [TOLERATION], TINY, "spec:template:spec:tolerations", [TOLERATION]),
    Case("affinity", AFFINITY, "Pod/zephyr-doctor", "spec:affinity", AFFINITY),
    Case("priorityClassName", "high", TINY, "spec:template:spec:priorityClassName", "high"),
    Case("s3.endpoint", "http://store:9000", PLATFORM, "data:AWS_ENDPOINT_URL", "http://store:9000"),
    Case("s3.region", "eu-west-1", PLATFORM, "data:AWS_DEFAULT_REGION", "eu-west-1", STORE),
    Case("s3.bucket", "models", PLATFORM, "data:ZEPHYR_STORE", "s3://models/zephyr"),
    Case("s3.prefix", "a/b", PLATFORM, "data:ZEPHYR_STORE", "s3://models/a/b", STORE),
    Case("s3.pathStyle", False, PLATFORM, "data:ZEPHYR_S3_PATH_STYLE", None, STORE),
    Case("s3.verifySsl", False, SECRET, "metadata:annotations:serving.kserve.io/s3-verifyssl", "0", KEYS),
    Case("s3.existingSecret", "keys", "ServiceAccount/zephyr-serving", "secrets", [{"name": "keys"}]),
    Case("s3.credentials.accessKeyId", "key", SECRET, "stringData:AWS_ACCESS_KEY_ID", "key", KEYS),
    Case("s3.credentials.secretAccessKey", "secret", SECRET, "stringData:AWS_SECRET_ACCESS_KEY", "secret", KEYS),
    Case("mlflow.mode", "external", MLFLOW, "", None, {"mlflow": {"url": "http://m"}}),
    Case(
        "mlflow.url", "https://m.example.com", PLATFORM, "data:MLFLOW_TRACKING_URI", "https://m.example.com", EXTERNAL
    ),
    Case(
        "mlflow.artifacts",
        "s3",
        MLFLOW,
        f"{CONTAINER}:args:3",
        "--artifacts-destination=s3://models/zephyr/mlflow",
        STORE,
    ),
    Case("mlflow.extraAllowedHosts", ["m.example.com"], MLFLOW, f"{CONTAINER}:args:4", ",m.example.com"),
    Case(
        "mlflow.postgres.existingSecret",
        "database",
        MLFLOW,
        f"{CONTAINER}:env:0:valueFrom:secretKeyRef",
        {"name": "database", "key": "uri"},
        {"mlflow": {"mode": "postgres"}},
    ),
    Case("mlflow.postgres.key", "url", MLFLOW, f"{CONTAINER}:env:0:valueFrom:secretKeyRef:key", "url", POSTGRES),
    Case(
        "mlflow.persistence.size",
        "50Gi",
        "PersistentVolumeClaim/zephyr-mlflow",
        "spec:resources:requests:storage",
        "50Gi",
    ),
    Case(
        "mlflow.persistence.storageClass",
        "fast",
        "PersistentVolumeClaim/zephyr-mlflow",
        "spec:storageClassName",
        "fast",
    ),
    Case("mlflow.fsGroup", None, MLFLOW, "spec:template:spec:securityContext:fsGroup", None),
    Case("mlflow.resources", RESOURCES, MLFLOW, f"{CONTAINER}:resources", RESOURCES),
    Case("kfp.endpoint", "http://kfp:8888", PLATFORM, "data:ZEPHYR_KFP_ENDPOINT", "http://kfp:8888"),
    Case("kfp.artifactSecret", "artifacts", "Role/zephyr-runner", "rules:4:resourceNames", ["artifacts"]),
    Case("pipeline.customResource", "enabled", "Pipeline/zephyr", "spec:displayName", "zephyr"),
    Case("pipeline.resources", RESOURCES, "Job/zephyr-pipeline-upload", f"{CONTAINER}:resources", RESOURCES, UPLOAD),
    Case("servingRuntime.enabled", "enabled", RUNTIME, "spec:supportedModelFormats:0:name", "zephyr"),
    Case(
        "servingRuntime.resources",
        RESOURCES,
        RUNTIME,
        "spec:containers:0:resources",
        RESOURCES,
        {"servingRuntime": {"enabled": "enabled"}},
    ),
    Case("trainingRuntime.enabled", "enabled", NODES, "spec:mlPolicy:torch", {}),
    Case(
        "trainingRuntime.pools",
        {"h100": {"nodeSelector": {"pool": "h100"}, "tolerations": [TOLERATION], "env": {"NCCL_IB_HCA": "mlx5"}}},
        f"{NODES}-h100",
        f"{NODE}:nodeSelector",
        {"pool": "h100"},
        TRAINER,
    ),
    Case("trainingRuntime.sharedMemory", "64Gi", NODES, f"{NODE}:volumes:1:emptyDir:sizeLimit", "64Gi", TRAINER),
    Case("trainingRuntime.env", {"A_NAME": "x"}, NODES, f"{NODE}:containers:0:env:0:name", "A_NAME", TRAINER),
    Case("trainingRuntime.maxRestarts", 0, NODES, "spec:template:spec:failurePolicy:maxRestarts", 0, TRAINER),
    Case("trainingRuntime.graceSeconds", 60, NODES, f"{NODE}:terminationGracePeriodSeconds", 60, TRAINER),
    Case("trainingRuntime.resources", RESOURCES, NODES, f"{NODE}:containers:0:resources", RESOURCES, TRAINER),
    Case("serving.deploymentMode", "Knative", PLATFORM, "data:ZEPHYR_DEPLOYMENT_MODE", "Knative"),
    Case("tinyWorld.enabled", False, TINY, "", None),
    Case("tinyWorld.resources", RESOURCES, TINY, f"{CONTAINER}:resources", RESOURCES),
    Case("test.resources", RESOURCES, "Pod/zephyr-doctor", "spec:containers:0:resources", RESOURCES),
    Case("networkPolicy.enabled", True, "NetworkPolicy/zephyr-mlflow", "spec:ingress:0:ports:0:port", 5000),
    Case("networkPolicy.from", [PEER], "NetworkPolicy/zephyr-tiny", "spec:ingress:0:from:1", PEER, POLICY),
    Case("serviceMonitor.enabled", "enabled", "ServiceMonitor/zephyr-predictors", "spec:endpoints:0:path", "/metrics"),
    Case(
        "serviceMonitor.labels",
        {"release": "p"},
        "ServiceMonitor/zephyr-predictors",
        "metadata:labels:release",
        "p",
        MONITOR,
    ),
    Case(
        "serviceMonitor.interval", "1m", "ServiceMonitor/zephyr-predictors", "spec:endpoints:0:interval", "1m", MONITOR
    ),
    # The other values of the switches.
    Case(
        "mlflow.mode", "postgres", MLFLOW, f"{CONTAINER}:args:3", "--artifacts-destination=/mlflow/artifacts", POSTGRES
    ),
    Case("mlflow.artifacts", "s3", "PersistentVolumeClaim/zephyr-mlflow", "", None, merged(STORE, POSTGRES)),
    Case("pipeline.customResource", "disabled", "Pipeline/zephyr", "", None),
    Case("servingRuntime.enabled", "disabled", RUNTIME, "", None),
    Case("serviceMonitor.enabled", "disabled", "ServiceMonitor/zephyr-predictors", "", None),
]
