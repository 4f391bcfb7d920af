"""Checks of the options that come with a request, and the continue token. Pure.

Source: k8s.io/apimachinery, meta/v1/validation and meta/internalversion/validation (rules and texts);
https://kubernetes.io/docs/reference/using-api/api-concepts/ (resourceVersion, resourceVersionMatch, chunks).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from apiserver.registry.faults import quoted
from apiserver.replies import unnamed_error
from apiserver.request import DeleteOptions, ListOptions, WriteOptions
from kubarium.machinery.errors import BadRequest, Invalid, StatusCause

EXACT = "Exact"
NOT_OLDER_THAN = "NotOlderThan"
ALL = "All"
BACKGROUND, FOREGROUND, ORPHAN = "Background", "Foreground", "Orphan"
MANAGER_LIMIT = 128
MAX_REVISION = 2**64
_DECIMAL = re.compile(r"[0-9]+")


def check_write(kind: str, options: WriteOptions) -> None:
    """`kind`: CreateOptions, UpdateOptions or PatchOptions. Raises Invalid."""
    if not options.dry_run and not options.field_manager and not options.field_validation:
        return
    causes = _dry_run(options.dry_run)
    if len(options.field_manager) > MANAGER_LIMIT:
        text = f"Too long: may not be more than {MANAGER_LIMIT} bytes"
        causes.append(StatusCause("FieldValueTooLong", text, "fieldManager"))
    causes += _unprintable(options.field_manager)
    if options.field_validation not in ("", "Ignore", "Strict", "Warn"):
        causes.append(_unsupported("fieldValidation", options.field_validation, ("", "Ignore", "Strict", "Warn")))
    _raise(kind, causes)


def check_patch(options: WriteOptions, *, apply: bool) -> None:
    """`apply`: server-side. Raises Invalid."""
    if apply and not options.field_manager:
        text = "Required value: is required for apply patch"
        _raise("PatchOptions", [StatusCause("FieldValueRequired", text, "fieldManager")])
    if not apply and options.force is not None:
        _raise("PatchOptions", [_forbidden("force", "may not be specified for non-apply patch")])
    check_write("PatchOptions", options)


def check_delete(options: DeleteOptions) -> None:
    """Raises Invalid."""
    causes = []
    policy = options.propagation_policy
    if policy is not None and options.orphan_dependents is not None:
        text = f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set'
        causes.append(StatusCause("FieldValueInvalid", text, "propagationPolicy"))
    elif policy not in (None, BACKGROUND, FOREGROUND, ORPHAN):
        causes.append(_unsupported("propagationPolicy", policy, (FOREGROUND, BACKGROUND, ORPHAN, "nil")))
    _raise("DeleteOptions", causes + _dry_run(options.dry_run))


def check_list(options: ListOptions) -> None:
    """Raises Invalid."""
    match, causes = options.resource_version_match, []
    if match:
        if not options.resource_version:
            causes.append(_match("resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if options.continue_token:
            causes.append(_match("resourceVersionMatch is forbidden when continue is provided"))
        if match not in (EXACT, NOT_OLDER_THAN):
            causes.append(_unsupported("resourceVersionMatch", match, (EXACT, NOT_OLDER_THAN, "")))
        if match == EXACT and options.resource_version == "0":
            causes.append(_match('resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if options.send_initial_events is not None:
        causes.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    _raise("ListOptions", causes)


def check_watch(options: ListOptions) -> None:
    """Raises Invalid. `options`: as `watch_defaults` has made them."""
    match, causes = options.resource_version_match, []
    if options.send_initial_events is not None and match != NOT_OLDER_THAN:
        causes.append(_match(f"sendInitialEvents requires setting resourceVersionMatch to {NOT_OLDER_THAN}"))
    if match:
        if options.send_initial_events is None:
            causes.append(_match("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
        if match != NOT_OLDER_THAN:
            causes.append(_unsupported("resourceVersionMatch", match, (NOT_OLDER_THAN,)))
        if options.continue_token:
            causes.append(_match("resourceVersionMatch is forbidden when continue is provided"))
    _raise("ListOptions", causes)


def watch_defaults(options: ListOptions) -> ListOptions:
    """A watch of no version or of any begins with the state as it is, and tells where that ends."""
    said = options.send_initial_events is not None or options.resource_version_match
    if said or options.resource_version not in ("", "0"):
        return options
    return replace(options, send_initial_events=True, resource_version_match=NOT_OLDER_THAN)


def parse_revision(text: str) -> int:
    """A resourceVersion; 0 where none is given. Raises ValueError with upstream's text."""
    if not text:
        return 0
    if not _DECIMAL.fullmatch(text):
        raise ValueError(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    if int(text) >= MAX_REVISION:
        raise ValueError(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": value out of range'
        )
    return int(text)


def is_revision(text: str | None) -> bool:
    """Whether a resourceVersion names one; what cannot be read names none."""
    return bool(text and _DECIMAL.fullmatch(text) and 0 < int(text) < MAX_REVISION)


def named_revision(text: str) -> int:
    """The resourceVersion of an object that a client sends, 0 for none. Raises an error without a reason."""
    try:
        return parse_revision(text)
    except ValueError as err:
        text = str(err)
        raise unnamed_error(text[text.index("strconv") :]) from err


def watch_revision(text: str) -> int:
    """For watch and get, where upstream's error has no reason."""
    try:
        return parse_revision(text)
    except ValueError as err:
        raise unnamed_error(str(err)) from err


def list_revision(text: str) -> int:
    try:
        return parse_revision(text)
    except ValueError as err:
        raise BadRequest(f"invalid resource version: {err}") from err


@dataclass(frozen=True, slots=True)
class ContinueToken:
    """Where a list goes on: at `revision` (-1: at the newest, inconsistently), from key `start` below the prefix."""

    revision: int
    start: str

    def encode(self) -> str:
        text = json.dumps({"v": "meta.k8s.io/v1", "rv": self.revision, "start": self.start}, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


_FIELDS: Final = {"v": "string", "rv": "int64", "start": "string"}  # of a token, and their types in Go
_NO_BASE64 = re.compile(r"[^A-Za-z0-9_\r\n-]")


def parse_continue(token: str) -> ContinueToken:
    """Raises BadRequest."""
    found = _token_fields(_from_base64(token))
    version, revision, start = found["v"], found["rv"], found["start"]
    if version != "meta.k8s.io/v1":
        text = "continue key is not valid: server does not recognize this encoded version"
        raise BadRequest(f"invalid continue token: {text} {version}")
    if revision == 0:
        raise _bad_token("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not start:
        raise _bad_token("encoded start key empty (version meta.k8s.io/v1)")
    below = start.removeprefix("/")
    if below and not {"", ".", ".."}.isdisjoint(below.split("/")):
        raise _bad_token(start)
    return ContinueToken(revision, below)


def _from_base64(token: str) -> bytes:
    """URL-safe and without padding. Raises BadRequest for the first byte that does not belong there."""
    if bad := _NO_BASE64.search(token):
        raise _bad_token(f"illegal base64 data at input byte {len(token[: bad.start()].encode())}")
    plain = token.replace("\r", "").replace("\n", "")
    if len(plain) % 4 == 1:
        raise _bad_token(f"illegal base64 data at input byte {len(token) - 1}")
    return base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))


def _token_fields(data: bytes) -> dict[str, Any]:
    """The fields of a token, empty where they are missing; their names in any case, as Go reads JSON."""
    from apiserver import gojson

    found: dict[str, Any] = {"v": "", "rv": 0, "start": ""}
    try:
        body = json.loads(data.decode())
    except ValueError as err:
        raise _bad_token(gojson.syntax_error(data.decode("latin-1")) or str(err)) from err
    if body is None:
        return found
    if not isinstance(body, dict):
        raise _bad_token(f"json: cannot unmarshal {_kind_of(body)} into Go value of type storage.continueToken")
    for key, value in body.items():
        name = key.lower()
        if name not in _FIELDS or value is None:
            continue
        if isinstance(value, str) if _FIELDS[name] == "string" else _is_int64(value):
            found[name] = value
            continue
        kind = _kind_of(value) if _FIELDS[name] == "string" or isinstance(value, bool) else _number_of(value)
        raise _bad_token(
            f"json: cannot unmarshal {kind} into Go struct field continueToken.{name} of type {_FIELDS[name]}"
        )
    return found


def _is_int64(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _kind_of(value: Any) -> str:
    kinds = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "object")


def _number_of(value: Any) -> str:
    """Numbers that do not fit are told with their value."""
    return f"number {json.dumps(value)}" if isinstance(value, int | float) else _kind_of(value)


def _bad_token(text: str) -> BadRequest:
    return BadRequest(f"invalid continue token: continue key is not valid: {text}")


def _dry_run(values: Sequence[str]) -> list[StatusCause]:
    """All of the values are shown where one is wrong."""
    if all(value == ALL for value in values):
        return []
    shown = json.dumps(list(values), separators=(",", ":"))
    return [StatusCause("FieldValueNotSupported", f'Unsupported value: {shown}: supported values: "{ALL}"', "dryRun")]


def _unprintable(manager: str) -> list[StatusCause]:
    found = [(at, char) for at, char in enumerate(manager) if not char.isprintable()] if manager else []
    return [
        StatusCause(
            "FieldValueInvalid",
            f"Invalid value: {quoted(manager)}: invalid character U+{ord(char):04X} (at position {at})",
            "fieldManager",
        )
        for at, char in found
    ]


def _unsupported(field: str, value: str, supported: Sequence[str]) -> StatusCause:
    shown = ", ".join(f'"{one}"' for one in supported)
    return StatusCause("FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {shown}', field)


def _forbidden(field: str, text: str) -> StatusCause:
    return StatusCause("FieldValueForbidden", f"Forbidden: {text}", field)


def _match(text: str) -> StatusCause:
    return _forbidden("resourceVersionMatch", text)


def _raise(kind: str, causes: Sequence[StatusCause]) -> None:
    if causes:
        raise Invalid.of("meta.k8s.io", kind, "", causes)
