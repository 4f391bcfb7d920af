"""Which standard a namespace holds its pods to, by its labels. Pure.

Source: https://kubernetes.io/docs/concepts/security/pod-security-admission/#pod-security-admission-labels-for-namespaces
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kubarium.machinery.errors import StatusCause

PREFIX = "pod-security.kubernetes.io/"
PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
STRICTNESS = {PRIVILEGED: 0, BASELINE: 1, RESTRICTED: 2}
LATEST = 1 << 30
"""The minor version of `latest`: newer than any."""

_VERSION = re.compile(r"v1\.(0|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Standard:
    """A level as it was in a minor version of Kubernetes."""

    level: str = PRIVILEGED
    minor: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:latest" if self.minor == LATEST else f"{self.level}:v1.{self.minor}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is refused, what is written to the audit log, what is warned of."""

    enforce: Standard = Standard()
    audit: Standard = Standard()
    warn: Standard = Standard()

    @property
    def asks_nothing(self) -> bool:
        return self.enforce.level == self.audit.level == self.warn.level == PRIVILEGED


NO_POLICY = Policy()


def policy_of(labels: Mapping[str, str] | None) -> tuple[Policy, list[StatusCause]]:
    """The policy of a namespace and what is wrong with its labels.

    What cannot be read enforces the most and warns of nothing; who enforces more than they warn of is warned alike.
    """
    if not labels or not any(name.startswith(PREFIX) for name in labels):
        return NO_POLICY, []
    faults: list[StatusCause] = []
    enforce = _standard(labels, "enforce", RESTRICTED, faults)
    audit = _standard(labels, "audit", PRIVILEGED, faults)
    warn = _standard(labels, "warn", PRIVILEGED, faults)
    readable = labels.get(PREFIX + "enforce") in STRICTNESS
    if PREFIX + "warn" not in labels and readable and STRICTNESS[enforce.level] > STRICTNESS[warn.level]:
        warn = Standard(enforce.level, warn.minor if PREFIX + "warn-version" in labels else enforce.minor)
    return Policy(enforce, audit, warn), faults


def _standard(labels: Mapping[str, str], mode: str, otherwise: str, faults: list[StatusCause]) -> Standard:
    level = labels.get(PREFIX + mode, PRIVILEGED)
    if level not in STRICTNESS:
        faults.append(_fault(mode, level, f"must be one of {PRIVILEGED}, {BASELINE}, {RESTRICTED}"))
        level = otherwise
    minor, version = LATEST, labels.get(f"{PREFIX}{mode}-version", "latest")
    if found := _VERSION.fullmatch(version):
        minor = int(found[1])
    elif version != "latest":
        faults.append(_fault(f"{mode}-version", version, 'must be "latest" or "v1.x"'))
    return Standard(level, minor)


def _fault(label: str, value: str, text: str) -> StatusCause:
    return StatusCause("FieldValueInvalid", f'Invalid value: "{value}": {text}', f"metadata.labels[{PREFIX}{label}]")
