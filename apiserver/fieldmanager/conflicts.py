"""The 409 of server-side apply, in upstream's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from apiserver.fieldmanager.entries import UPDATE, Manager
from apiserver.fieldmanager.fieldsets import Fields, path_text, paths
from kubarium.machinery.errors import Conflict, StatusCause


class Owned(NamedTuple):
    """What somebody owns of the fields that an apply would change."""

    manager: Manager
    fields: Fields


def shown(manager: Manager) -> str:
    """`"kubectl-scale" using apps/v1`, `"kubelet" with subresource "status" using v1`."""
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    return f"{text} using {manager.api_version}" if manager.operation == UPDATE else text


def conflict_error(conflicts: Sequence[Owned]) -> Conflict:
    ordered = sorted(conflicts, key=lambda found: found.manager)
    causes, parts = [], []
    for manager, fields in ordered:
        texts = [path_text(path) for path in paths(fields)]
        message = f"conflict with {shown(manager)}"
        causes += [StatusCause("FieldManagerConflict", message, text) for text in texts]
        parts.append("\n".join([f"conflicts with {shown(manager)}:", *(f"- {text}" for text in texts)]))
    if len(causes) == 1:
        text = f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    else:
        text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(parts)
    return Conflict(text, details={"causes": [cause.to_dict() for cause in causes]})
