"""ValidatingWebhookConfigurations and MutatingWebhookConfigurations (group admissionregistration.k8s.io).

Source: k8s.io/kubernetes/pkg/apis/admissionregistration/validation, k8s.io/apiserver/pkg/util/webhook (texts).
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from apiserver.registry import names
from apiserver.registry.admission_expressions import Expressions
from apiserver.registry.admission_rules import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    REINVOCATION_POLICIES,
    check_conditions,
    check_rule,
    default_matching,
    default_rules,
    warnings,
)
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME
from apiserver.registry.faults import Faults, quoted
from apiserver.registry.labels import check_selector
from apiserver.registry.meta import check_accessor, counting, creating, first_generation, updating

_REVIEW_VERSIONS = ("v1", "v1beta1")
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_URL_FORM = "; desired format: https://host[/path]"


def _default(obj: Object) -> None:
    for hook in obj.get("webhooks") or ():
        default_matching(hook)
        default_rules(hook.get("rules") or ())
        hook.setdefault("failurePolicy", "Fail")
        hook.setdefault("timeoutSeconds", 10)
        if service := (hook.get("clientConfig") or {}).get("service"):
            service.setdefault("port", 443)


def _default_mutating(obj: Object) -> None:
    _default(obj)
    for hook in obj.get("webhooks") or ():
        hook.setdefault("reinvocationPolicy", "Never")


def _check(obj: Object, faults: Faults) -> None:
    _check_new(obj, None, faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    _check_new(new, old, faults)


def _check_new(obj: Object, old: Object | None, faults: Faults) -> None:
    check_accessor(obj.get("metadata") or {}, False, names.name_is_subdomain, faults)
    known = [hook.get("matchConditions") for hook in old.get("webhooks") or ()] if old else None
    same = known == [hook.get("matchConditions") for hook in obj.get("webhooks") or ()]
    seen: set[str] = set()
    for i, hook in enumerate(obj.get("webhooks") or ()):
        path, name = f"webhooks[{i}]", hook.get("name", "")
        _check_hook(hook, path, faults)
        if not same:
            conditions = hook.get("matchConditions") or []
            check_conditions(conditions, f"{path}.matchConditions", faults, Expressions().condition)
        _check_versions(hook.get("admissionReviewVersions") or [], f"{path}.admissionReviewVersions", faults)
        if name and name in seen:
            faults.duplicate(f"{path}.name", name)
        seen.add(name)


def _check_hook(hook: Object, path: str, faults: Faults) -> None:
    _check_name(hook.get("name", ""), f"{path}.name", faults)
    for i, rule in enumerate(hook.get("rules") or ()):
        check_rule(rule, f"{path}.rules[{i}]", faults)
    for field, allowed in (("failurePolicy", FAILURE_POLICIES), ("matchPolicy", MATCH_POLICIES)):
        if (value := hook.get(field)) is not None and value not in allowed:
            faults.unsupported(f"{path}.{field}", value, allowed)
    if (effects := hook.get("sideEffects")) is None:
        faults.required(f"{path}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}")
    elif effects not in _SIDE_EFFECTS:
        faults.unsupported(f"{path}.sideEffects", effects, _SIDE_EFFECTS)
    if (timeout := hook.get("timeoutSeconds")) is not None and not 1 <= timeout <= 30:
        faults.invalid(f"{path}.timeoutSeconds", timeout, "the timeout value must be between 1 and 30 seconds")
    for field in ("namespaceSelector", "objectSelector"):
        if (selector := hook.get(field)) is not None:
            check_selector(selector, f"{path}.{field}", faults)
    if (policy := hook.get("reinvocationPolicy")) is not None and policy not in REINVOCATION_POLICIES:
        faults.unsupported(f"{path}.reinvocationPolicy", policy, REINVOCATION_POLICIES)
    _check_client(hook.get("clientConfig") or {}, f"{path}.clientConfig", faults)


def _check_name(name: str, path: str, faults: Faults) -> None:
    """A domain name of at least three parts."""
    if not name:
        faults.required(path)
    elif found := names.dns1123_subdomain(name):
        faults.invalid(path, name, ",".join(found))
    elif name.count(".") < 2:
        faults.invalid(path, name, "should be a domain with at least three segments separated by dots")


def _check_versions(versions: list[str], path: str, faults: Faults) -> None:
    known = ", ".join(_REVIEW_VERSIONS)
    if not versions:
        faults.required(path, f"must specify one of {known}")
        return
    seen: set[str] = set()
    for i, version in enumerate(versions):
        if version in seen:
            faults.invalid(f"{path}[{i}]", version, "duplicate version")
            continue
        seen.add(version)
        faults.each(f"{path}[{i}]", version, names.dns1035_label(version))
    if not seen & set(_REVIEW_VERSIONS):
        faults.invalid(path, versions, f"must include at least one of {known}")


# --- where the webhook is


def _check_client(client: Object, path: str, faults: Faults) -> None:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        faults.required(path, "exactly one of url or service is required")
    elif url is not None:
        check_url(url, f"{path}.url", faults)
    else:
        check_service(service or {}, f"{path}.service", faults)


def _url_fault(url: str) -> str:
    """What Go's net/url says of a text that is no URL; "" where it is one."""
    bare = url.partition("#")[0]
    if re.search(r"[\x00-\x1f\x7f]", bare):
        return "net/url: invalid control character in URL"
    if bare.startswith(":"):
        return "missing protocol scheme"
    scheme = re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", bare)
    rest = bare[scheme.end() :] if scheme else bare
    if not scheme and ":" in rest.partition("/")[0] and not rest.startswith("/"):
        return "first path segment in URL cannot contain colon"
    if bad := re.search(r"%(?![0-9a-fA-F]{2}).{0,2}", rest.partition("?")[0]):
        return f"invalid URL escape {quoted(bad.group())}"
    host = rest[2:].partition("/")[0].partition("?")[0].rpartition("@")[2] if rest.startswith("//") else ""
    if bad := re.search(r"[^\w.~%!$&'()*+,;=:\[\]<>\"-]", host, re.ASCII):
        return f"invalid character {quoted(bad.group())} in host name"
    if host.startswith("[") and "]" not in host:
        return "missing ']' in host"
    port = re.search(r":[^:\]]*$", host)
    return (
        f"invalid port {quoted(port.group())} after host" if port and not re.fullmatch(r":[0-9]*", port.group()) else ""
    )


def check_url(url: str, path: str, faults: Faults) -> None:
    if wrong := _url_fault(url):
        faults.required(path, f"url must be a valid URL: parse {quoted(url)}: {wrong}{_URL_FORM}")
        return
    try:
        parts = urlsplit(url)
    except ValueError as err:
        faults.required(path, f"url must be a valid URL: {err}{_URL_FORM}")
        return
    user, at, host = parts.netloc.rpartition("@")
    if parts.scheme != "https":
        faults.invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{_URL_FORM}")
    if not host:
        faults.invalid(path, "", f"host must be specified{_URL_FORM}")
    if at:
        faults.invalid(path, user, "user information is not permitted in the URL")
    if parts.fragment:
        faults.invalid(path, parts.fragment, "fragments are not permitted in the URL")
    if parts.query:
        faults.invalid(path, parts.query, "query parameters are not permitted in the URL")


def check_service(service: Object, path: str, faults: Faults) -> None:
    """A Service that is called. A missing namespace is reported as a missing name, and the other way round, as
    upstream does."""
    if not service.get("namespace"):
        faults.required(f"{path}.name")
    if not service.get("name"):
        faults.required(f"{path}.namespace")
    port = service.get("port", 443)
    if found := names.port_number(port):
        faults.invalid(f"{path}.port", port, f"port is not valid: {', '.join(found)}")
    url_path = service.get("path")
    if not url_path or url_path == "/":
        return
    if url_path == "//":
        faults.invalid(f"{path}.path", url_path, "segment[0] may not be empty")
        return
    if not url_path.startswith("/"):
        faults.invalid(f"{path}.path", url_path, "must start with a '/'")
    for i, step in enumerate(url_path[1:].removesuffix("/").split("/")):
        found = names.dns1123_subdomain(step) if step else []
        texts = [f"segment[{i}]: {text}" for text in found] if step else [f"segment[{i}] may not be empty"]
        faults.each(f"{path}.path", url_path, texts)


# --- tables


_TEXT = "Webhooks indicates the number of webhooks registered in this configuration"
_COLUMNS = (NAME, Column("Webhooks", "integer", _TEXT, lambda obj, _now: len(obj.get("webhooks") or ())), AGE)

MUTATINGWEBHOOKCONFIGURATIONS = ResourceDef(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    "mutatingwebhookconfiguration",
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="Sqi0GUgDaX0=",
    columns=_COLUMNS,
    strategy=Strategy(
        default=_default_mutating,
        prepare_create=first_generation,
        validate=creating(_check),
        prepare_update=counting("webhooks"),
        validate_update=updating(_check_update, namespaced=False),
        warnings=warnings,
        allow_unconditional_update=False,
    ),
)

VALIDATINGWEBHOOKCONFIGURATIONS = ResourceDef(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    "validatingwebhookconfiguration",
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="B0wHjQmsGNk=",
    columns=_COLUMNS,
    strategy=Strategy(
        default=_default,
        prepare_create=first_generation,
        validate=creating(_check),
        prepare_update=counting("webhooks"),
        validate_update=updating(_check_update, namespaced=False),
        warnings=warnings,
        allow_unconditional_update=False,
    ),
)
