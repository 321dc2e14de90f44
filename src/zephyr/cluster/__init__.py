"""Runs on a cluster: where steps go, Kubeflow Pipelines, the Kubernetes API, what a cluster lacks."""
