"""One pod until Running against `docker run -d` of the same image, taken in turns."""

from __future__ import annotations

import json
import statistics
import subprocess
import time

from benchmarks.lab import NAME, Row, cluster, run, spread

RUNS = 10
MANIFEST = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  nodeName: node-1
  containers: [{{name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, infinity]}}]
"""


def measure() -> list[Row]:
    pod, plain = [], []
    with cluster() as lab:
        docker = ["docker", "-H", f"unix://{lab.status()['docker_socket']}"]
        for number in range(RUNS):
            name = f"p{number}"
            begin = time.perf_counter()
            watcher = subprocess.Popen(
                [
                    "curl",
                    "-skN",
                    "-H",
                    f"Authorization: Bearer {lab.token}",
                    f"{lab.url}/api/v1/namespaces/default/pods?watch=1&fieldSelector=metadata.name%3D{name}",
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert watcher.stdout is not None
            begin = time.perf_counter()
            run(
                [
                    "curl",
                    "-sk",
                    "-f",
                    "-H",
                    f"Authorization: Bearer {lab.token}",
                    "-H",
                    "Content-Type: application/yaml",
                    "--data-binary",
                    "@-",
                    f"{lab.url}/api/v1/namespaces/default/pods",
                ],
                stdin=MANIFEST.format(name=name),
            )
            for line in watcher.stdout:
                if json.loads(line)["object"]["status"].get("phase") == "Running":
                    break
            pod.append(time.perf_counter() - begin)
            watcher.kill()
            watcher.wait()
            begin = time.perf_counter()
            container = run(
                [
                    *docker,
                    "run",
                    "-d",
                    "--network",
                    "none",
                    "--label",
                    f"io.kubarium.cluster={NAME}",
                    "kubarium/busybox",
                    "sleep",
                    "infinity",
                ]
            ).strip()
            plain.append(time.perf_counter() - begin)
            run([*docker, "rm", "-f", container])
            lab.kubarium("delete", "pod", name)
    ratio = statistics.median(pod) / statistics.median(plain)
    return [
        Row("pod, from its creation until Running", spread([s * 1e3 for s in pod], "ms", 0)),
        Row("`docker run -d --network none` of the same image", spread([s * 1e3 for s in plain], "ms", 0)),
        Row("ratio", f"{ratio:.2f}", "<= 2.2"),
    ]
