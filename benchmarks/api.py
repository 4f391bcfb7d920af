"""Creates/s, gets/s and watch fan-out over TLS, with the yardstick (nginx, 1 KB static, TLS) in the same run."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.lab import SCRIPTS, Row, cluster, requests_per_second, run, wait_until
from benchmarks.start import answers

YARDSTICK_PORT = 18443
NGINX = """
worker_processes 2; daemon off; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  ssl_certificate {folder}/crt; ssl_certificate_key {folder}/key;
  server {{ listen 127.0.0.1:{port} ssl; root {folder}; }}
  server {{ listen 127.0.0.1:{plain}; root {folder}; }}
}}
"""


def yardstick() -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "one.txt").write_text("x" * 1024)
        (folder / "index.html").write_text("x")
        run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-keyout",
                f"{name}/key",
                "-out",
                f"{name}/crt",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ]
        )
        (folder / "conf").write_text(NGINX.format(folder=name, port=YARDSTICK_PORT, plain=YARDSTICK_PORT + 1))
        server = subprocess.Popen(["nginx", "-c", f"{name}/conf"])
        try:
            wait_until(lambda: answers("127.0.0.1", YARDSTICK_PORT + 1))
            return requests_per_second(
                run(["wrk", "-t2", "-c32", "-d4s", f"https://127.0.0.1:{YARDSTICK_PORT}/one.txt"])
            )
        finally:
            server.terminate()
            server.wait()


def measure() -> list[Row]:
    yard = yardstick()
    rows = [Row("yardstick: nginx, TLS, 1 KB", f"{yard:,.0f} requests/s")]
    one = "/api/v1/namespaces/default/configmaps/one"
    for store in ("sqlite", "etcd"):
        with cluster("--store", store) as lab:
            lab.kubarium("create", "configmap", "one", "--from-literal=k=v")
            creates = requests_per_second(
                run(["wrk", "-t2", "-c32", "-d8s", "-s", str(SCRIPTS / "create.lua"), lab.url, "--", lab.token])
            )
            gets = requests_per_second(
                run(["wrk", "-t2", "-c32", "-d6s", "-s", str(SCRIPTS / "get.lua"), lab.url, "--", lab.token, one])
            )
            rows += [
                Row(
                    f"create ConfigMap, 32 connections, {store}",
                    f"{creates:,.0f}/s = {creates / yard:.3f} of the yardstick",
                ),
                Row(
                    f"get one ConfigMap, 32 connections, {store}", f"{gets:,.0f}/s = {gets / yard:.3f} of the yardstick"
                ),
            ]
            lab.kubarium("create", "namespace", "fanout")  # its own first ConfigMap must not be among the events
            wait_until(lambda: "kube-root-ca.crt" in lab.kubarium("get", "configmaps", "-n", "fanout"))
            for watchers, writes in ((1, 2000), (100, 1000), (1000, 200)) if store == "sqlite" else ():
                argv = [sys.executable, str(SCRIPTS / "watch.py"), lab.url, lab.token, str(watchers), str(writes)]
                rows.append(Row("watch fan-out", run(argv).strip()))
    return [*rows, Row("kube-apiserver 1.36 on etcd, reference machine", "creates 0.045, gets 0.096 of the yardstick")]
