"""PodSecurity: pods keep to the standard that their namespace's labels name; makers of pods are warned.

Source: https://kubernetes.io/docs/concepts/security/pod-security-admission/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin, is_pods
from apiserver.admission.podsecurity.checks import described, evaluate, reasons
from apiserver.admission.podsecurity.levels import NO_POLICY, PRIVILEGED, STRICTNESS, Policy, Standard, policy_of
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.state import State, decoded
from kubarium.machinery.errors import InternalError, Invalid

MOST_PODS = 3000
CHECK_S = 1.0
"""For how many pods of a namespace a change of its labels is tried out, and for how long."""

TEMPLATES = {
    ("", "podtemplates"): ("template",),
    ("", "replicationcontrollers"): ("spec", "template"),
    ("apps", "replicasets"): ("spec", "template"),
    ("apps", "deployments"): ("spec", "template"),
    ("apps", "statefulsets"): ("spec", "template"),
    ("apps", "daemonsets"): ("spec", "template"),
    ("batch", "jobs"): ("spec", "template"),
    ("batch", "cronjobs"): ("spec", "jobTemplate", "spec", "template"),
}
"""Where makers of pods keep their template."""

IGNORED_SUBRESOURCES = frozenset(["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"])


class PodSecurity(Plugin):
    def __init__(self, state: State, registry: Registry, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._registry = registry
        self._clock = clock
        self._policies: dict[str, tuple[int, Policy]] = {}  # of namespaces, by the revision that they were read at

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        if operation not in (CREATE, UPDATE):
            return False
        if is_pods(resource):
            return subresource not in IGNORED_SUBRESOURCES
        kind = (resource.group, resource.plural)
        return not subresource and (kind in TEMPLATES or kind == ("", "namespaces"))

    async def validate(self, attributes: Attributes) -> None:
        resource = attributes.resource
        if resource.plural == "namespaces":
            self._validate_namespace(attributes)
            return
        policy = await self._policy(attributes.namespace)
        if policy.asks_nothing:
            return
        assert attributes.obj is not None
        if is_pods(resource):
            if attributes.old is None or is_significant(attributes.obj, attributes.old):
                judge(attributes, policy, attributes.obj, enforce=True)
        elif template := template_of(resource, attributes.obj):
            judge(attributes, policy, template, enforce=False)

    async def _policy(self, namespace: str) -> Policy:
        resource = self._namespaces
        entry = self._state.peek(resource, "", namespace)
        if entry is not None:
            known = self._policies.get(namespace)
            if known is not None and known[0] == entry.revision:
                return known[1]
        else:
            entry = await self._state.current(resource, "", namespace)
            if entry is None:
                raise InternalError(f'Internal error occurred: failed to lookup namespace "{namespace}"')
        labels = entry.head.labels
        policy = policy_of(labels)[0] if labels else NO_POLICY
        if len(self._policies) > 10_000:
            self._policies.clear()
        self._policies[namespace] = entry.revision, policy
        return policy

    @property
    def _namespaces(self) -> ResourceDef:
        found = self._registry.get("", "v1", "namespaces")
        assert found is not None
        return found

    # -- namespaces ----------------------------------------------------------------------------------------------------

    def _validate_namespace(self, attributes: Attributes) -> None:
        """Labels must be readable; pods that a stricter policy would not let in are warned of."""
        assert attributes.obj is not None
        policy, faults = policy_of(attributes.obj["metadata"].get("labels"))
        before = NO_POLICY
        if attributes.old is not None:
            before, old_faults = policy_of(attributes.old["metadata"].get("labels"))
            if faults == old_faults:
                faults = []
        if faults:
            raise Invalid.of("", "Namespace", attributes.name, faults)
        if attributes.operation == UPDATE and is_stricter(policy.enforce, before.enforce):
            attributes.warnings += self._warnings(attributes.name, policy.enforce)

    def _warnings(self, namespace: str, standard: Standard) -> list[str]:
        pods = self._registry.get("", "v1", "pods")
        assert pods is not None
        entries = self._state.cache.list(pods.key(namespace))
        found = in_turn([decoded(entry) for entry in entries])
        return pod_warnings(namespace, standard, found, self._clock)


def is_stricter(new: Standard, old: Standard) -> bool:
    """Whether pods that were let in before may be refused now."""
    if new == old or new.level == PRIVILEGED:
        return False
    return new.minor != old.minor or STRICTNESS[new.level] > STRICTNESS[old.level]


def in_turn(pods: Iterable[Object]) -> list[Object]:
    """Pods of one controller are alike: the first of each before the rest."""
    first: list[Object] = []
    rest: list[Object] = []
    seen: set[str] = set()
    for pod in pods:
        owners = pod["metadata"].get("ownerReferences") or ()
        uid = next((ref["uid"] for ref in owners if ref.get("controller")), "")
        (rest if uid in seen else first).append(pod)
        if uid:
            seen.add(uid)
    return first + rest


def pod_warnings(
    namespace: str, standard: Standard, pods: list[Object], clock: Callable[[], float] = time.monotonic
) -> list[str]:
    """What to tell whoever tightens a namespace's policy. Pods with the same faults share a line."""
    end = clock() + CHECK_S
    names: dict[str, list[str]] = {}
    checked = 0
    for pod in pods[:MOST_PODS]:
        checked += 1
        if findings := evaluate(standard, pod["metadata"], pod.get("spec") or {}):
            names.setdefault(reasons(findings), []).append(pod["metadata"]["name"])
        if clock() > end:
            break
    lines = []
    if checked < len(pods):
        seen = f"the first {checked} of {len(pods)} existing pods"
        lines.append(f"new PodSecurity enforce level only checked against {seen}")
    if names:
        text = "violate the new PodSecurity enforce level"
        lines.append(f'existing pods in namespace "{namespace}" {text} "{standard}"')
    return lines + sorted(f"{_counted(found)}: {text}" for text, found in names.items())


def _counted(names: list[str]) -> str:
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{min(names)} (and {others} other {'pod' if others == 1 else 'pods'})"


# -- pods --------------------------------------------------------------------------------------------------------------


def judge(attributes: Attributes, policy: Policy, pod: Object, *, enforce: bool) -> None:
    """Raises Forbidden where the pod may not be; adds the warning where it is only disliked."""
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    if enforce and (findings := evaluate(policy.enforce, meta, spec)):
        raise attributes.forbidden(f'violates PodSecurity "{policy.enforce}": {described(findings)}')
    if findings := evaluate(policy.warn, meta, spec):
        attributes.warnings.append(f'would violate PodSecurity "{policy.warn}": {described(findings)}')


def template_of(resource: ResourceDef, obj: Object) -> Object:
    """The pod template in an object that makes pods; empty where it has none."""
    found: Object = obj
    for name in TEMPLATES[resource.group, resource.plural]:
        found = found.get(name) or {}
    return found


def is_significant(pod: Object, old: Object) -> bool:
    """Whether an update changed what the checks look at: containers and their images."""
    new_spec, old_spec = pod.get("spec") or {}, old.get("spec") or {}
    for kind in ("containers", "initContainers"):
        if _images(new_spec, kind) != _images(old_spec, kind):
            return True
    before = dict(zip(_names(old_spec), _images(old_spec, "ephemeralContainers"), strict=True))
    now = zip(_names(new_spec), _images(new_spec, "ephemeralContainers"), strict=True)
    return any(name not in before or before[name] != image for name, image in now)


def _images(spec: Object, kind: str) -> list[str]:
    return [container.get("image", "") for container in spec.get(kind) or ()]


def _names(spec: Object) -> list[str]:
    return [container.get("name", "") for container in spec.get("ephemeralContainers") or ()]
