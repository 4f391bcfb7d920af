"""Environment, DNS files, volumes, images, mounts: from values to values."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kubarium.machinery import objects
from kubarium.machinery.errors import ConfigError
from kubelet import files, make
from kubelet.config import NodeTaint, parse_config
from kubelet.dns import ClusterDns, Resolver, format_hosts, format_resolver, parse_resolv_conf, plan_resolver
from kubelet.env import ContainerConfigError, NodeFacts, Sources, expand, make_env, service_env
from kubelet.images import Aliases, pull_policy
from kubelet.node import Machine, plan_conditions
from kubelet.plan import Start
from kubelet.probes import Tally
from kubelet.runtimes.base import Image, LogOptions
from kubelet.runtimes.host import _log_lines
from kubelet.volumes import File, VolumeError, plan_files
from tests.kubelet.build import pod, spec_of

NODE = NodeFacts(name="node-1", ip="192.0.2.1", allocatable={"cpu": "2", "memory": "1Gi"}, pod_ips=("10.244.1.5",))
CLUSTER = ClusterDns(("10.96.0.10",), "cluster.local")


def sources(
    config_maps: dict[str, Any] | None = None, secrets: dict[str, Any] | None = None, *services: Any
) -> Sources:
    maps = {k: msgspec.convert({"data": v}, objects.ConfigMap) for k, v in (config_maps or {}).items()}
    hidden = {
        k: msgspec.convert(
            {"data": {key: base64.b64encode(x.encode()).decode() for key, x in v.items()}}, objects.Secret
        )
        for k, v in (secrets or {}).items()
    }
    return Sources(
        config_map=maps.get, secret=hidden.get, services=tuple(msgspec.convert(s, objects.Service) for s in services)
    )


def service(name: str, ip: str, *ports: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": list(ports)}}


def env_of(container: dict[str, Any], found: Sources) -> dict[str, str]:
    web = pod({"containers": [{"name": "app", "image": "x"} | container]}, labels={"a": "b"})
    return make_env(web, web.spec.containers[0], found, NODE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)", "1"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("x$(A)y$", "x1y$"), ("$$$$", "$$"), ("$(A", "$(A")],
)
def test_references_expand(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"fieldRef": {"fieldPath": "status.podIP"}}, "10.244.1.5"),
        ({"fieldRef": {"fieldPath": "status.hostIP"}}, "192.0.2.1"),
        ({"fieldRef": {"fieldPath": "metadata.labels['a']"}}, "b"),
        ({"resourceFieldRef": {"resource": "limits.cpu"}}, "2"),
        ({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}, "1024"),
        ({"resourceFieldRef": {"resource": "requests.cpu"}}, "0"),
        ({"configMapKeyRef": {"name": "m", "key": "k"}}, "v"),
        ({"secretKeyRef": {"name": "s", "key": "k"}}, "hidden"),
    ],
)
def test_values_from(source: dict[str, Any], expected: str) -> None:
    found = sources({"m": {"k": "v"}}, {"s": {"k": "hidden"}})
    assert env_of({"env": [{"name": "A", "valueFrom": source}]}, found)["A"] == expected


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "k"}}, 'configmap "no" not found'),
        ({"configMapKeyRef": {"name": "m", "key": "no"}}, "couldn't find key no in ConfigMap default/m"),
        ({"secretKeyRef": {"name": "no", "key": "k"}}, 'secret "no" not found'),
    ],
)
def test_a_reference_that_leads_nowhere(source: dict[str, Any], text: str) -> None:
    with pytest.raises(ContainerConfigError, match=text):
        env_of({"env": [{"name": "A", "valueFrom": source}]}, sources({"m": {}}))


def test_service_variables() -> None:
    web = pod()
    found = sources(
        None,
        None,
        service("kubernetes", "10.96.0.1", {"name": "https", "port": 443}),
        service("my-db", "10.96.0.7", {"port": 5432, "protocol": "TCP"}),
        service("headless", "None", {"port": 1}),
        service("far", "10.96.0.8", {"port": 1}, namespace="other"),
    )
    env = service_env(web, found.services)
    assert env["KUBERNETES_SERVICE_PORT_HTTPS"] == "443" and env["MY_DB_PORT_5432_TCP_ADDR"] == "10.96.0.7"
    assert env["MY_DB_PORT"] == "tcp://10.96.0.7:5432"
    assert not [key for key in env if key.startswith(("HEADLESS", "FAR"))]
    alone = service_env(pod({"enableServiceLinks": False}), found.services)
    assert "KUBERNETES_SERVICE_HOST" in alone and "MY_DB_SERVICE_HOST" not in alone


CLUSTER_FIRST = """\
search default.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5
"""
NODES_OWN = "search lan\nnameserver 192.0.2.53\n"
CUSTOM = {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, CLUSTER_FIRST, id="ClusterFirst"),
        pytest.param({"dnsPolicy": "Default"}, NODES_OWN, id="Default"),
        pytest.param({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, NODES_OWN, id="hostNetwork"),
        pytest.param({"dnsPolicy": "None", "dnsConfig": CUSTOM}, "nameserver 1.1.1.1\noptions ndots:2\n", id="None"),
    ],
)
def test_resolv_conf(spec: dict[str, Any], expected: str) -> None:
    node = parse_resolv_conf("# mine\nsearch lan\nnameserver 192.0.2.53\n")
    if not spec:
        node = Resolver()
    assert format_resolver(plan_resolver(pod(spec), CLUSTER, node)) == expected


def test_hosts_names_the_pod_and_its_aliases() -> None:
    spec = {"subdomain": "db", "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["a", "b"]}]}
    text = format_hosts(pod(spec), ["10.244.1.5"], "cluster.local")
    assert "10.244.1.5\tweb.db.default.svc.cluster.local\tweb\n" in text and text.endswith("192.0.2.9\ta\tb\n")


def test_volume_files() -> None:
    volume = msgspec.convert(
        {"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "d/x", "mode": 0o400}]}}, objects.Volume
    )
    assert plan_files(pod(), volume, sources({"m": {"k": "v", "z": ""}}), NODE, {}) == {"d/x": File(b"v", 0o400)}
    with pytest.raises(VolumeError, match='configmap "m" not found'):
        plan_files(pod(), volume, sources(), NODE, {})


def test_files_change_all_at_once_and_only_when_they_differ(tmp_path: Path) -> None:
    assert files.write_files(tmp_path, {"a": File(b"1"), "d/b": File(b"2", 0o400)})
    assert not files.write_files(tmp_path, {"a": File(b"1"), "d/b": File(b"2", 0o400)})
    first = (tmp_path / "..data").resolve()
    assert stat.S_IMODE((tmp_path / "d/b").stat().st_mode) == 0o400
    assert files.write_files(tmp_path, {"a": File(b"9")})
    assert (tmp_path / "a").read_bytes() == b"9" and not (tmp_path / "d").exists() and not first.exists()
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["a"]


def test_a_sub_path_cannot_leave_its_volume(tmp_path: Path) -> None:
    volume, target = tmp_path / "volume", tmp_path / "target"
    volume.mkdir()
    (volume / "out").symlink_to("/etc")
    with pytest.raises(VolumeError, match="leads out of the volume"):
        files.mount_sub_path(volume, "out", target)
    with pytest.raises(VolumeError, match="leads out of the volume"):
        files.mount_sub_path(volume, "../..", target)
    files.mount_sub_path(volume, "new/folder", target)
    try:
        (target / "file").write_text("x")
        assert (volume / "new/folder/file").read_text() == "x"
    finally:
        files.unmount(target)
    assert not os.path.ismount(target)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nginx", "local/nginx"),
        ("nginx:1.2", "local/nginx"),
        ("httpd", None),
        ("local/nginx", "local/nginx"),
        ("my/nginx", None),
    ],
)
def test_aliases(tmp_path: Path, image: str, expected: str | None) -> None:
    path = tmp_path / "aliases.json"
    path.write_text('{"nginx": "local/nginx", "nginx:*": "local/nginx"}')
    assert Aliases(path).resolve(image) == expected


def test_an_alias_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("[1]")
    with pytest.raises(ConfigError, match="expected a JSON object"):
        Aliases(tmp_path / "a").resolve("x")


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("h:5000/a:1", "IfNotPresent"),
        ("h:5000/a", "Always"),
    ],
)
def test_default_pull_policy(image: str, policy: str) -> None:
    assert pull_policy("", image) == policy


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("nginx", True),
        ("h:5/a/b:v1", True),
        ("UPPER", False),
        ("a b", False),
        ("a@sha256:" + "0" * 64, True),
        ("", False),
    ],
)
def test_image_names(name: str, good: bool) -> None:
    assert make.is_image_name(name) is good


def test_security_and_limits_of_a_container() -> None:
    container = {
        "name": "app", "image": "x", "command": ["run", "$(A)"],
        "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
        "securityContext": {"runAsUser": 7, "runAsGroup": 8, "allowPrivilegeEscalation": False},
    }  # fmt: skip
    web = pod({"containers": [container], "securityContext": {"fsGroup": 9}})
    spec = make.container_spec(
        web, spec_of(web, "app"), Start("app", 2, 1), image="i", info=Image("id"), env={"A": "1"}, mounts=(), node=NODE
    )
    assert (spec.user, spec.groups, spec.no_new_privileges, spec.command) == ("7:8", (9,), True, ("run", "1"))
    assert (spec.cpu_milli, spec.cpu_request_milli, spec.memory_bytes, spec.restart_count) == (500, 500, 64 << 20, 2)


def test_an_image_that_runs_as_root_is_refused_where_that_is_forbidden() -> None:
    web = pod({"securityContext": {"runAsNonRoot": True}})
    with pytest.raises(ContainerConfigError, match="image will run as root"):
        make.container_spec(
            web, spec_of(web, "app"), Start("app"), image="i", info=Image("id"), env={}, mounts=(), node=NODE
        )


def test_a_probes_verdict_changes_at_its_thresholds_only() -> None:
    tally = Tally(success_threshold=2, failure_threshold=3)
    seen = []
    for good in (True, True, False, False, True, False, False, False, True):
        tally = tally.add(good)
        seen.append(tally.verdict)
    assert seen == [None, True, True, True, True, True, True, False, False]


def test_node_conditions_say_why_it_is_not_ready() -> None:
    machine = Machine(2, 1 << 20, 1 << 30, 1 << 20, 1 << 30, 100, 32768)
    good = plan_conditions(machine, runtime_problem="", network_problem="")
    assert [c.holds for c in good] == [False, False, False, False, True]
    bad = plan_conditions(machine, runtime_problem="no answer", network_problem="no agent")
    assert bad[-1].message == (
        "container runtime is down: no answer, container runtime network not ready: NetworkReady=false "
        "reason:NetworkPluginNotReady message:no agent"
    )


FLAGS = ("--hostname-override=n", "--node-ip=192.0.2.1", "--root-dir=/r", "--cni-socket=/s", "--tls-cert-file=/c",
         "--tls-private-key-file=/k", "--client-ca-file=/ca")  # fmt: skip


def test_flags() -> None:
    config = parse_config([*FLAGS, "--node-labels=a=b,c=", "--register-with-taints=k=v:NoSchedule,x:NoExecute"])
    assert config.node_labels == {"a": "b", "c": ""}
    assert config.taints == (NodeTaint("k", "v", "NoSchedule"), NodeTaint("x", "", "NoExecute"))
    assert config.lease_renew_s == 10


@pytest.mark.parametrize(
    "flag", ["--node-ip=x", "--register-with-taints=k:No", "--node-labels=a", "--crash-loop-backoff=0s"]
)
def test_a_flag_that_cannot_be_used_is_named(flag: str) -> None:
    with pytest.raises(ConfigError, match=flag.split("=", 1)[0]):
        parse_config([*FLAGS, flag])


async def test_a_line_written_while_a_log_is_being_read_is_followed_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"2026-01-31T12:00:00Z stdout F first\n")
    lines = _log_lines(log, LogOptions(follow=True), asyncio.Event())
    assert await anext(lines) == b"first\n"
    with log.open("ab") as file:
        file.write(b"2026-01-31T12:00:01Z stdout F second\n")
    async with asyncio.timeout(5):
        assert await anext(lines) == b"second\n"
    await lines.aclose()  # type: ignore[attr-defined]
