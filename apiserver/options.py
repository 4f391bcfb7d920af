"""Checks of the options that come with a request, and the continue token. Pure.

Source: k8s.io/apimachinery, meta/v1/validation and meta/internalversion/validation (rules and texts);
https://kubernetes.io/docs/reference/using-api/api-concepts/ (resourceVersion, resourceVersionMatch, chunks).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

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
    if policy and options.orphan_dependents is not None:
        text = f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set'
        causes.append(StatusCause("FieldValueInvalid", text, "propagationPolicy"))
    elif policy not in ("", BACKGROUND, FOREGROUND, ORPHAN):
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
    """Raises Invalid."""
    match, causes = options.resource_version_match, []
    if options.send_initial_events is not None:
        if match != NOT_OLDER_THAN:
            causes.append(_match(f"sendInitialEvents requires setting resourceVersionMatch to {NOT_OLDER_THAN}"))
        if options.continue_token:
            causes.append(_match("resourceVersionMatch is forbidden when continue is provided"))
    elif match:
        causes.append(_match("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
        if match != NOT_OLDER_THAN:
            causes.append(_unsupported("resourceVersionMatch", match, (NOT_OLDER_THAN,)))
    _raise("ListOptions", causes)


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


def parse_continue(token: str) -> ContinueToken:
    """Raises BadRequest."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as err:
        raise _bad_token(f"illegal base64 data at input byte {_first_bad(token)}") from err
    try:
        body = json.loads(data.decode("utf-8", "replace"))
        version, revision, start = body.get("v"), body.get("rv", 0), body.get("start", "")
    except (ValueError, AttributeError) as err:
        first = data[:1].decode("latin-1")
        raise _bad_token(f"invalid character '{first}' looking for beginning of value") from err
    if version != "meta.k8s.io/v1":
        raise BadRequest(
            "invalid continue token: continue key is not valid: server does not recognize this encoded version"
        )
    if not isinstance(revision, int) or revision == 0:
        raise _bad_token("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not isinstance(start, str) or not start:
        raise _bad_token("encoded start key empty (version meta.k8s.io/v1)")
    if ".." in start.split("/"):
        raise _bad_token(f"{start}")
    return ContinueToken(revision, start)


def _first_bad(token: str) -> int:
    bad = re.search(r"[^A-Za-z0-9_-]", token)
    return bad.start() if bad else len(token)


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
            f"Invalid value: {json.dumps(manager)}: invalid character U+{ord(char):04X} (at position {at})",
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
