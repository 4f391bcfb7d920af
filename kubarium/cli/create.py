"""`kubarium create`: objects from manifests, or the usual ones from flags."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubarium.cli import kinds, output, target
from kubarium.cli.apply import add_write_flags, explained, for_each, options
from kubarium.cli.flags import Parser
from kubarium.cli.http import Server
from kubarium.cli.kinds import Kind
from kubarium.cli.manifests import Manifest
from kubarium.cli.run import UsageError
from kubarium.machinery.errors import ApiError, ClusterError

MANAGER = "kubectl-create"


def main(command: str, argv: list[str]) -> None:
    parser = Parser(
        "create",
        "-f FILE | namespace|serviceaccount NAME | configmap|secret NAME --from-... | deployment NAME --image=...",
        "Create objects.",
    )
    parser.add_argument("words", nargs="*", metavar="TYPE NAME")
    parser.add_files()
    parser.add_output()
    add_write_flags(parser)
    parser.add_argument("--from-literal", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--from-file", action="append", default=[], metavar="[KEY=]FILE")
    parser.add_argument("--type", default="Opaque", help="of a secret")
    parser.add_argument("--image", action="append", default=[], help="of a deployment's container")
    parser.add_argument("-r", "--replicas", type=int, default=1)
    parser.add_argument("--port", type=int, default=0, help="that the container serves")
    args = parser.parse(argv)
    server = Server(target.find(args))
    if args.filename:
        for_each(server, args, lambda kind, manifest: _create(server, args, kind, manifest))
        return
    obj = _made(args)
    kind = kinds.of_object(server, obj)
    if kind.namespaced:
        obj["metadata"]["namespace"] = args.namespace or server.namespace
    namespace = obj["metadata"].get("namespace", "")
    if args.dry_run != "client":
        obj = server.call("POST", kind.path(namespace), options(args, MANAGER), obj)
    if args.output:
        output.print_objects(args.output, [(kind, obj)], single=True)
        return
    said = {"client": " (dry run)", "server": " (server dry run)"}.get(args.dry_run, "")
    print(f"{kind.qualified}/{obj['metadata']['name']} created{said}")


def _create(server: Server, args: Any, kind: Kind, manifest: Manifest) -> tuple[str, dict[str, Any]]:
    if args.dry_run == "client":
        return "created", manifest.obj
    try:
        return "created", server.call("POST", kind.path(manifest.namespace), options(args, MANAGER), manifest.obj)
    except ApiError as err:
        raise explained(err, "creating", manifest.source) from err


def _made(args: Any) -> dict[str, Any]:
    words = list(args.words)
    if words[:2] == ["secret", "generic"]:
        del words[1]
    if len(words) != 2:
        raise UsageError(f"exactly one NAME is required, got {max(0, len(words) - 1)}; or give a manifest with -f")
    makers: dict[str, Callable[[Any, str], dict[str, Any]]] = {
        "namespace": _namespace,
        "ns": _namespace,
        "configmap": _configmap,
        "cm": _configmap,
        "secret": _secret,
        "serviceaccount": _serviceaccount,
        "sa": _serviceaccount,
        "deployment": _deployment,
        "deploy": _deployment,
    }
    if words[0] not in makers:
        raise UsageError(f'cannot create a "{words[0]}" from flags; write a manifest and use -f')
    return makers[words[0]](args, words[1])


def _object(api_version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}


def _namespace(_: Any, name: str) -> dict[str, Any]:
    return _object("v1", "Namespace", name)


def _serviceaccount(_: Any, name: str) -> dict[str, Any]:
    return _object("v1", "ServiceAccount", name)


def _configmap(args: Any, name: str) -> dict[str, Any]:
    texts: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, value in _data(args).items():
        try:
            texts[key] = value.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(value).decode()
    parts = {"data": texts, "binaryData": binary}
    return _object("v1", "ConfigMap", name, **{field: part for field, part in parts.items() if part})


def _secret(args: Any, name: str) -> dict[str, Any]:
    data = {key: base64.b64encode(value).decode() for key, value in _data(args).items()}
    return _object("v1", "Secret", name, type=args.type, **({"data": data} if data else {}))


def _data(args: Any) -> dict[str, bytes]:
    """--from-literal and --from-file as bytes by key; a folder gives all its files."""
    found: dict[str, bytes] = {}
    for text in args.from_literal:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"invalid literal source {text}, expected key=value")
        found[key] = value.encode()
    for text in args.from_file:
        key, _, name = text.rpartition("=")
        path = Path(name)
        try:
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            found |= {key or file.name: file.read_bytes() for file in files if file.is_file() or not path.is_dir()}
        except OSError as err:
            raise ClusterError(f"error reading {name}: {err.strerror}") from err
    return found


def _deployment(args: Any, name: str) -> dict[str, Any]:
    if not args.image:
        raise UsageError('required flag(s) "image" not set')
    labels = {"app": name}
    containers = [{"name": _container_name(image), "image": image} for image in args.image]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    if args.port:
        containers[0]["ports"] = [{"containerPort": args.port}]
    spec = {"replicas": args.replicas, "selector": {"matchLabels": labels}, "template": template}
    deployment = _object("apps/v1", "Deployment", name, spec=spec)
    deployment["metadata"]["labels"] = labels
    return deployment


def _container_name(image: str) -> str:
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0]
