"""`kubarium apply`: make objects as manifests say, as kubectl does (three-way merge, last-applied annotation)."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

from kubarium.cli import kinds, output, target, threeway
from kubarium.cli.flags import Parser
from kubarium.cli.http import Server
from kubarium.cli.kinds import Kind
from kubarium.cli.manifests import Manifest, read_files
from kubarium.cli.run import Exit, UsageError, describe_error
from kubarium.machinery.errors import ApiError, ClusterError, Conflict, NotFound, UnsupportedMediaType

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MANAGER = "kubectl-client-side-apply"
ATTEMPTS = 5


def main(command: str, argv: list[str]) -> None:
    parser = Parser("apply", "-f FILE [flags]", "Make objects as their manifests say.")
    parser.add_files(required=True)
    parser.add_output()
    add_write_flags(parser)
    parser.add_argument("--server-side", action="store_true", help="let the server merge, with field ownership")
    parser.add_argument("--force-conflicts", action="store_true", help="with --server-side: take fields from others")
    parser.add_argument("--field-manager", default="", help="name of the owner of the fields")
    parser.add_argument("words", nargs="*", help="(none)")
    args = parser.parse(argv)
    if args.words:
        raise UsageError(f"Unexpected args: {args.words}")
    server = Server(target.find(args))
    for_each(server, args, lambda kind, manifest: _apply(server, args, kind, manifest))


def add_write_flags(parser: Parser) -> None:
    parser.add_argument("--dry-run", nargs="?", const="client", default="none", choices=("none", "client", "server"))
    parser.add_argument("--validate", nargs="?", const="strict", default="strict", help="strict, warn or ignore")


def for_each(server: Server, args: Any, write: Any) -> None:
    """Write every manifest; one that fails is told in the end, the others go on. `write` gives (verb, object)."""
    errors: list[ClusterError] = []
    written: list[tuple[Kind, dict[str, Any]]] = []
    for manifest in read_files(args.filename, recursive=args.recursive):
        try:
            kind = kinds.of_object(server, manifest.obj, manifest.source)
            verb, obj = write(kind, _placed(manifest, kind, args.namespace, server.namespace))
        except (ApiError, UsageError) as err:
            errors.append(err)
            continue
        written.append((kind, obj))
        if not args.output:
            said = {"client": " (dry run)", "server": " (server dry run)"}.get(args.dry_run, "")
            print(f"{kind.qualified}/{obj['metadata']['name']} {verb}{said}", flush=True)
    if args.output and written:
        output.print_objects(args.output, written, single=len(written) == 1)
    if errors:
        sys.stdout.flush()
        for error in errors:
            print(_told(error, alone=len(errors) == 1), file=sys.stderr)
        raise Exit(1)


def _told(err: ClusterError, *, alone: bool) -> str:
    if not isinstance(err, ApiError):
        return f"error: {err}"
    return describe_error(err) if alone else describe_error(err, short=True)


def _placed(manifest: Manifest, kind: Kind, wanted: str, default: str) -> Manifest:
    """The manifest with its namespace in place."""
    if not kind.namespaced:
        return manifest
    if wanted and manifest.namespace and manifest.namespace != wanted:
        raise UsageError(
            f'the namespace from the provided object "{manifest.namespace}" does not match the namespace "{wanted}". '
            f"You must pass '--namespace={manifest.namespace}' to perform this operation."
        )
    obj = dict(manifest.obj)
    obj["metadata"] = dict(obj.get("metadata") or {}, namespace=manifest.namespace or wanted or default)
    return Manifest(obj, manifest.source)


def options(args: Any, manager: str) -> dict[str, str]:
    """Query parameters of every write."""
    validation = {"true": "Strict", "false": "Ignore"}.get(args.validate, args.validate.capitalize())
    query = {"fieldManager": manager, "fieldValidation": validation}
    return query | {"dryRun": "All"} if args.dry_run == "server" else query


def explained(err: ApiError, doing: str, source: str) -> ApiError:
    """The error, saying which file it came from."""
    told = f'error when {doing} "{source}": {err.message}'
    return type(err)(told, details=err.details, code=err.status_code, reason=err.status_reason)


def _apply(server: Server, args: Any, kind: Kind, manifest: Manifest) -> tuple[str, dict[str, Any]]:
    if not manifest.name:
        raise UsageError(
            f"error when retrieving current configuration of {manifest.source}: resource name may not be empty"
        )
    if args.server_side:
        return _server_side(server, args, kind, manifest)
    path = kind.path(manifest.namespace, manifest.name)
    for attempt in range(ATTEMPTS):
        try:
            current = server.get(path)
        except NotFound:
            return _create(server, args, kind, manifest)
        try:
            return _update(server, args, kind, manifest, current)
        except Conflict:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _create(server: Server, args: Any, kind: Kind, manifest: Manifest) -> tuple[str, dict[str, Any]]:
    obj = with_last_applied(manifest.obj)
    if args.dry_run == "client":
        return "created", obj
    try:
        return "created", server.call("POST", kind.path(manifest.namespace), options(args, MANAGER), obj)
    except ApiError as err:
        raise explained(err, "creating", manifest.source) from err


def _update(
    server: Server, args: Any, kind: Kind, manifest: Manifest, current: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    annotation = (current["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    if annotation is None:
        print(
            f"Warning: resource {kind.plural}/{manifest.name} is missing the {LAST_APPLIED} annotation which is "
            "required by kubectl apply. kubectl apply should only be used on resources created declaratively by either "
            "kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
            file=sys.stderr,
        )
    original = _parsed(annotation)
    modified = with_last_applied(manifest.obj)
    patch = threeway.strategic(original, modified, current)
    if not patch:
        return "unchanged", current
    if args.dry_run == "client":
        return "configured", current
    path, query = kind.path(manifest.namespace, manifest.name), options(args, MANAGER)
    try:
        try:
            body, media = patch, "application/strategic-merge-patch+json"
            return "configured", server.call("PATCH", path, query, body, content_type=media)
        except UnsupportedMediaType:  # a custom resource
            body, media = threeway.json_merge(original, modified, current), "application/merge-patch+json"
            return "configured", server.call("PATCH", path, query, body, content_type=media)
    except Conflict:
        raise
    except ApiError as err:
        raise explained(err, "applying patch to", manifest.source) from err


def _parsed(annotation: str | None) -> dict[str, Any]:
    try:
        document = json.loads(annotation or "{}")
    except ValueError as err:
        raise ClusterError(f"the annotation {LAST_APPLIED} is not JSON: {err}") from err
    return document if isinstance(document, dict) else {}


def with_last_applied(obj: dict[str, Any]) -> dict[str, Any]:
    """The manifest with itself in the annotation, byte for byte as kubectl writes it."""
    bare = copy.deepcopy(obj)
    annotations = dict(bare["metadata"].get("annotations") or {})
    annotations.pop(LAST_APPLIED, None)
    bare["metadata"]["annotations"] = annotations
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    bare["metadata"]["annotations"] = {**annotations, LAST_APPLIED: text}
    return bare


def _server_side(server: Server, args: Any, kind: Kind, manifest: Manifest) -> tuple[str, dict[str, Any]]:
    query = options(args, args.field_manager or "kubectl")
    if args.force_conflicts:
        query["force"] = "true"
    path = kind.path(manifest.namespace, manifest.name)
    try:
        obj = server.call("PATCH", path, query, manifest.obj, content_type="application/apply-patch+yaml")
    except ApiError as err:
        raise explained(err, "applying patch to", manifest.source) from err
    return "serverside-applied", obj
