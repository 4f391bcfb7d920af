"""Options out of a query string. Pure. Source: apimachinery pkg/runtime (conversion of query parameters)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_plus

from apiserver.registry.faults import quoted
from apiserver.request import DeleteOptions, ListOptions, WriteOptions
from kubarium.machinery.errors import BadRequest

Query = Mapping[str, list[str]]
EMPTY: Query = {}
KEPT = 256  # the longest query that is remembered
_INTEGER = re.compile(r"[+-]?[0-9]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_query(text: str) -> Query:
    """Every value of every name, in order. Shared between requests: not to be changed."""
    if not text:
        return EMPTY
    return _known(text) if len(text) <= KEPT else _parse(text)


def _parse(text: str) -> Query:
    """What cannot be read is left out, as Go does it; a semicolon separates nothing."""
    found: dict[str, list[str]] = {}
    for pair in text.split("&"):
        if not pair or ";" in pair or _BAD_ESCAPE.search(pair):
            continue
        name, _, value = pair.partition("=")
        found.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return found


_known = lru_cache(maxsize=1024)(_parse)


def first(query: Query, name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


def is_true(query: Query, name: str) -> bool:
    """Present and neither `false` nor `0`, as Go's conversion has it."""
    values = query.get(name) or ("false",)
    return values[0].lower() not in ("false", "0")


def integer(query: Query, name: str) -> int | None:
    """Of 64 bits; None where it is not given. Raises BadRequest."""
    if name not in query:
        return None
    text = first(query, name)
    if not _INTEGER.fullmatch(text):
        raise BadRequest(f"strconv.ParseInt: parsing {quoted(text)}: invalid syntax")
    if not -(2**63) <= int(text) < 2**63:
        raise BadRequest(f"strconv.ParseInt: parsing {quoted(text)}: value out of range")
    return int(text)


def is_watch(query: Query) -> bool:
    return "watch" in query and is_true(query, "watch")


def list_options(query: Query) -> ListOptions:
    if not query:
        return ListOptions()
    return ListOptions(
        label_selector=first(query, "labelSelector"),
        field_selector=first(query, "fieldSelector"),
        limit=integer(query, "limit") or 0,
        continue_token=first(query, "continue"),
        resource_version=first(query, "resourceVersion"),
        resource_version_match=first(query, "resourceVersionMatch"),
        timeout_s=integer(query, "timeoutSeconds") or 0,
        allow_bookmarks=is_true(query, "allowWatchBookmarks"),
        send_initial_events=is_true(query, "sendInitialEvents") if "sendInitialEvents" in query else None,
    )


def write_options(query: Query, user_agent: str) -> WriteOptions:
    if not query:
        return WriteOptions(user_agent=user_agent)
    return WriteOptions(
        dry_run=tuple(query.get("dryRun", ())),
        field_manager=first(query, "fieldManager"),
        field_validation=first(query, "fieldValidation"),
        force=is_true(query, "force") if "force" in query else None,
        user_agent=user_agent,
    )


def delete_options(query: Query) -> DeleteOptions:
    return DeleteOptions(
        grace_period_s=integer(query, "gracePeriodSeconds"),
        propagation_policy=first(query, "propagationPolicy") if "propagationPolicy" in query else None,
        orphan_dependents=is_true(query, "orphanDependents") if "orphanDependents" in query else None,
        uid=first(query, "uid") or None,
        resource_version=first(query, "resourceVersion") or None,
        dry_run=tuple(query.get("dryRun", ())),
    )
