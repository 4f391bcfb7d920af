"""The same server seen by kr8s."""

from pathlib import Path

import kr8s
from kr8s.objects import Deployment


def test_a_deployment_gets_its_pods(kubeconfig: Path, namespace: str) -> None:
    api = kr8s.api(kubeconfig=str(kubeconfig))
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    Deployment({"metadata": {"name": "web", "namespace": namespace}, "spec": spec}, api=api).create()

    seen = set()
    for _, pod in api.watch("pods", namespace=namespace, label_selector=labels):
        seen.add(pod.name)
        if len(seen) == 3:  # they stay Pending: there is no node
            break
