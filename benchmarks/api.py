"""The API server: creates and gets per second over TLS with the yardstick in the same run; lists, watches, start.

Creates and gets are measured in a whole cluster, where controllers and kubelets watch, and on a server alone.
"""

from __future__ import annotations

import tempfile

from benchmarks.alone import TOKEN, alone, lists_and_watches, services, starts
from benchmarks.lab import SCRIPTS, Row, cluster, requests_per_second, run
from benchmarks.yardstick import yardstick

ONE = "/api/v1/namespaces/default/configmaps/one"
# A gap to kube-apiserver's 0.045 and 0.096 of the yardstick: creates 2.5 times on SQLite, 1.25 times on etcd, gets 2.5.
TARGETS = {"sqlite": (0.112, 0.240), "etcd": (0.056, 0.240)}


NOTES = """What bounds them (py-spy and perf on the server, loaded alone; microseconds of CPU):

- A get takes 35: 14 of them are TLS, system calls and the loop (a protocol on uvloop that answers everything with fixed
  bytes makes 41,000 to 52,000 requests/s here), 3 the parser, the rest the way from path and token to the cached bytes.
- A create takes 160: half of that is decoding, defaults, admission, managed fields and checks, a quarter TLS and system
  calls, the rest the store's thread and the watch cache. In a cluster the controllers' watches come on top, and take
  their part of the two cores.
- A list is joined from stored bytes, 256 objects at a time; TLS and the client's reading bound it.
- Watches: 9 a watcher and telling, nearly all of it TLS and the system call; with 1,000 watchers the load generator
  (one Python process, 8 to 12 an event) is what is full.
- The start is imports: 0.15 s from compiled modules. Where Python may not write them (PYTHONDONTWRITEBYTECODE, and no
  `python -m compileall` before), every start compiles 0.25 s more.
"""


def load(url: str, token: str, yard: float, where: str, store: str) -> list[Row]:
    created = run(["wrk", "-t2", "-c32", "-d8s", "-s", str(SCRIPTS / "create.lua"), url, "--", token])
    got = run(["wrk", "-t2", "-c32", "-d6s", "-s", str(SCRIPTS / "get.lua"), url, "--", token, ONE])
    if "Non-2xx" in created + got:
        raise RuntimeError(f"{where}: requests failed:\n{created}\n{got}")
    creates, gets = requests_per_second(created), requests_per_second(got)
    create_target, get_target = TARGETS[store]
    return [
        Row(f"creates, {where}, {store}", f"{creates:,.0f}/s = {creates / yard:.3f}", f">= {create_target:.3f}"),
        Row(f"gets, {where}, {store}", f"{gets:,.0f}/s = {gets / yard:.3f}", f">= {get_target:.3f}"),
    ]


def in_clusters(yard: float) -> list[Row]:
    rows = []
    for store in TARGETS:
        with cluster("--store", store) as lab:
            lab.kubarium("create", "configmap", "one", "--from-literal=k=v")
            rows += load(lab.url, lab.token, yard, "in a cluster", store)
    return rows


def on_its_own(yard: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, alone("--store", f"sqlite://{folder}/store.db") as server:
        body = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"},"data":{"k":"v"}}'
        headers = ["-H", f"Authorization: Bearer {TOKEN}", "-H", "Content-Type: application/json"]
        run(["curl", "-skf", "-X", "POST", *headers, "-d", body, server.url + ONE.rpartition("/")[0]])
        return load(server.url, TOKEN, yard, "alone", "sqlite")


def measure() -> list[Row]:
    yard = yardstick()
    return [
        Row("yardstick: nginx, TLS, 1 KB", f"{yard:,.0f} requests/s = 1"),
        *in_clusters(yard),
        *on_its_own(yard),
        Row("kube-apiserver 1.36 on etcd, reference machine", "creates 0.045, gets 0.096"),
        *lists_and_watches(),
        *services(),
        *starts(),
    ]
