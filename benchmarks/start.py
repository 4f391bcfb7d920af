"""From nothing to a usable cluster, and from there to a web app that answers."""

from __future__ import annotations

import socket
import time

from benchmarks.lab import KUBARIUM, NAME, ROOT, Row, cluster, down, run, spread, timed, wait_until

RUNS = 5


def answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def measure() -> list[Row]:
    ready = []
    for _ in range(RUNS):
        ready.append(timed([KUBARIUM, "up", "--name", NAME]))
        down()
    with cluster() as lab:
        nodes = lab.get("nodes")["items"]
        address = next(a["address"] for a in nodes[-1]["status"]["addresses"] if a["type"] == "InternalIP")
        web = []
        for _ in range(3):
            begin = time.perf_counter()
            lab.kubarium("apply", "-f", str(ROOT / "examples" / "web-app"))
            wait_until(lambda: answers(address, 30080))
            web.append(time.perf_counter() - begin)
            lab.kubarium("delete", "-f", str(ROOT / "examples" / "web-app"))
            wait_until(lambda: not lab.get("pods")["items"])
    stop = timed([KUBARIUM, "up", "--name", NAME]), timed([KUBARIUM, "down", "--name", NAME])
    run([KUBARIUM, "down", "--name", NAME])
    return [
        Row(
            "`kubarium up`, 3 nodes, until usable (DNS answers and a ClusterIP connects on every node)",
            spread(ready),
            "< 3 s",
        ),
        Row("`kubarium apply -f examples/web-app/` until its NodePort answers", spread(web)),
        Row("`kubarium down`", f"{stop[1]:.2f} s"),
        Row(
            "kind / k3d / minikube until an application answers and DNS works (published, 2025)", "33.0 / 19.9 / 50.8 s"
        ),
    ]
