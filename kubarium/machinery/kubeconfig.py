"""Kubeconfig files: where the API server is and who we are.

Ours are written as JSON text (which is YAML as well), so that reading one needs no YAML parser; any other kubeconfig is
read too. An extension of the cluster entry tells where the same server speaks gRPC.
Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kubarium.machinery.errors import ConfigError

GRPC_EXTENSION = "io.kubarium"
SERVICE_ACCOUNT = "var/run/secrets/kubernetes.io/serviceaccount"


class ClientConfig(NamedTuple):
    """One cluster and one user. PEM fields are bytes, empty where absent; `grpc` is host:port or ""."""

    server: str
    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    token: str = ""
    token_file: str = ""
    insecure: bool = False
    tls_server_name: str = ""
    namespace: str = "default"
    grpc: str = ""
    cluster: str = ""


def read(path: str | Path, *, context: str = "") -> ClientConfig:
    """The current (or named) context of a kubeconfig file. Raises ConfigError naming the file and what is missing."""
    path = Path(path)
    try:
        text = path.read_text()
    except OSError as err:
        raise ConfigError(f"kubeconfig {path}: {err.strerror}") from err
    return parse(_load(path, text), folder=path.parent, source=str(path), context=context)


def _load(path: Path, text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            pass  # YAML in flow style begins with a brace as well
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError(f"kubeconfig {path}: not YAML: {err}") from err


def parse(document: Any, *, folder: Path, source: str, context: str = "") -> ClientConfig:
    """A kubeconfig document to a ClientConfig; relative file names are looked up from `folder`."""
    if not isinstance(document, Mapping):
        raise ConfigError(f"kubeconfig {source}: expected a mapping with clusters, users and contexts")
    context = context or str(document.get("current-context") or "")
    chosen = _named(document, "contexts", "context", context, source)
    cluster = _named(document, "clusters", "cluster", str(chosen.get("cluster") or ""), source)
    user = _named(document, "users", "user", str(chosen["user"]), source) if chosen.get("user") else {}
    if not cluster.get("server"):
        raise ConfigError(f"kubeconfig {source}: cluster {chosen.get('cluster')!r} has no server")
    return ClientConfig(
        server=str(cluster["server"]).rstrip("/"),
        ca=_material(cluster, "certificate-authority", folder, source),
        certificate=_material(user, "client-certificate", folder, source),
        key=_material(user, "client-key", folder, source),
        token=str(user.get("token") or ""),
        token_file=str(folder / user["tokenFile"]) if user.get("tokenFile") else "",
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=str(cluster.get("tls-server-name") or ""),
        namespace=str(chosen.get("namespace") or "default"),
        grpc=_grpc_address(cluster),
        cluster=str(chosen.get("cluster") or ""),
    )


def _named(document: Mapping[str, Any], section: str, key: str, name: str, source: str) -> Mapping[str, Any]:
    for entry in document.get(section) or ():
        if entry.get("name") == name:
            return entry.get(key) or {}
    raise ConfigError(f"kubeconfig {source}: no entry {name!r} under {section}")


def _material(entry: Mapping[str, Any], key: str, folder: Path, source: str) -> bytes:
    """PEM bytes given inline (KEY-data, base64) or as a file name (KEY)."""
    try:
        if entry.get(f"{key}-data"):
            return base64.b64decode(entry[f"{key}-data"])
        return (folder / entry[key]).read_bytes() if entry.get(key) else b""
    except binascii.Error as err:
        raise ConfigError(f"kubeconfig {source}: {key}-data is not base64: {err}") from err
    except OSError as err:
        raise ConfigError(f"kubeconfig {source}: {key} {entry[key]}: {err.strerror}") from err


def _grpc_address(cluster: Mapping[str, Any]) -> str:
    for extension in cluster.get("extensions") or ():
        if extension.get("name") == GRPC_EXTENSION:
            return str((extension.get("extension") or {}).get("grpc") or "")
    return ""


def in_cluster(env: Mapping[str, str] = os.environ) -> ClientConfig:
    """The ServiceAccount that the kubelet mounted into this pod, and the `kubernetes` Service.

    A pod of the host runtime finds its volumes below $CONTAINER_SANDBOX_MOUNT_POINT, as Windows HostProcess pods do.
    """
    host, port = env.get("KUBERNETES_SERVICE_HOST", ""), env.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError("no kubeconfig given and not in a pod (KUBERNETES_SERVICE_HOST is not set): use --kubeconfig")
    mount = Path(env.get("CONTAINER_SANDBOX_MOUNT_POINT", "") or "/") / SERVICE_ACCOUNT
    try:
        ca = (mount / "ca.crt").read_bytes()
        namespace = (mount / "namespace").read_text().strip()
    except OSError as err:
        raise ConfigError(f"ServiceAccount volume {mount}: {err.strerror}: {err.filename}") from err
    address = f"[{host}]" if ":" in host else host
    return ClientConfig(
        server=f"https://{address}:{port}", ca=ca, token_file=str(mount / "token"), namespace=namespace or "default"
    )


def render(config: ClientConfig, *, user: str, cluster: str = "") -> dict[str, Any]:
    """The kubeconfig document of one cluster and one user."""
    cluster = cluster or config.cluster or "kubarium"
    entry: dict[str, Any] = {"server": config.server}
    if config.ca:
        entry["certificate-authority-data"] = base64.b64encode(config.ca).decode()
    if config.insecure:
        entry["insecure-skip-tls-verify"] = True
    if config.tls_server_name:
        entry["tls-server-name"] = config.tls_server_name
    if config.grpc:
        entry["extensions"] = [{"name": GRPC_EXTENSION, "extension": {"grpc": config.grpc}}]
    credentials: dict[str, Any] = {}
    if config.certificate:
        credentials["client-certificate-data"] = base64.b64encode(config.certificate).decode()
        credentials["client-key-data"] = base64.b64encode(config.key).decode()
    if config.token:
        credentials["token"] = config.token
    if config.token_file:
        credentials["tokenFile"] = config.token_file
    context = {"cluster": cluster, "user": user}
    if config.namespace and config.namespace != "default":
        context["namespace"] = config.namespace
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": entry}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": cluster, "context": context}],
        "current-context": cluster,
    }


def write(path: str | Path, config: ClientConfig, *, user: str, cluster: str = "") -> None:
    """Write a kubeconfig as JSON text, readable by its owner only, in one step. Raises ConfigError."""
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"kubeconfig {path}: is a folder; expected a file that can be written")
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(render(config, user=user, cluster=cluster), indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as err:
        fresh.unlink(missing_ok=True)
        raise ConfigError(f"kubeconfig {path}: {err.strerror}; expected a file that can be written") from err
