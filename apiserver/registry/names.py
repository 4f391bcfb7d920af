"""Checks of names, label keys and values, ports and addresses: each takes a value and returns what is wrong with it.

Source: k8s.io/apimachinery/pkg/util/validation and /pkg/api/validate/content (the texts).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from apiserver.registry import addresses

NameCheck = Callable[[str, bool], list[str]]  # (name, is it only a prefix) -> what is wrong

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_DNS1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_KEY_NAME})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HTTP_HEADER = "[-A-Za-z0-9]+"

_label = re.compile(_LABEL).fullmatch
_subdomain = re.compile(_SUBDOMAIN).fullmatch
_dns1035 = re.compile(_DNS1035).fullmatch
_key_name = re.compile(_KEY_NAME).fullmatch
_label_value = re.compile(_LABEL_VALUE).fullmatch
_config_key = re.compile(_CONFIG_KEY).fullmatch
_wildcard = re.compile(r"\*\." + _SUBDOMAIN).fullmatch
_relaxed_env_name = re.compile(r"[\x20-\x3c\x3e-\x7e]+").fullmatch
_http_header = re.compile(_HTTP_HEADER).fullmatch
_port_name = re.compile("[a-z0-9-]+").fullmatch


def _regex_error(message: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{e}', " for e in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


_ALNUM_ENDS = "and must start and end with an alphanumeric character"
_SUBDOMAIN_TEXT = _regex_error(
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_ALNUM_ENDS}",
    _SUBDOMAIN,
    "example.com",
)
_LABEL_TEXT = _regex_error(
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_ALNUM_ENDS}",
    _LABEL,
    "my-name",
    "123-abc",
)
_UNDERSCORES = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*"
_UNDERSCORES_TEXT = _regex_error(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
    f"'_', '-' or '.', {_ALNUM_ENDS}",
    _UNDERSCORES,
    "example.com",
)
_DNS1035_TEXT = _regex_error(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    _DNS1035,
    "my-name",
    "abc-123",
)
_KEY_TEXT = _regex_error(
    f"must consist of alphanumeric characters, '-', '_' or '.', {_ALNUM_ENDS}",
    _KEY_NAME,
    "MyName",
    "my.name",
    "123-abc",
)
_LABEL_VALUE_TEXT = _regex_error(
    f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_ALNUM_ENDS}",
    _LABEL_VALUE,
    "MyValue",
    "my_value",
    "12345",
)
_CONFIG_KEY_TEXT = _regex_error(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_WILDCARD_TEXT = _regex_error(
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
    r"\*\." + _SUBDOMAIN,
    "*.example.com",
)


def too_long(limit: int) -> str:
    return f"must be no more than {limit} bytes"


def _sized(value: str, limit: int, matches: bool, text: str, unit: str = "characters") -> list[str]:
    """`unit`: upstream counts bytes everywhere, and says so in newer texts."""
    faults = [] if len(value) <= limit else [f"must be no more than {limit} {unit}"]
    return faults if matches else [*faults, text]


def dns1123_label(value: str) -> list[str]:
    return _sized(value, 63, bool(_label(value)), "must not contain dots" if _subdomain(value) else _LABEL_TEXT)


def dns1123_subdomain(value: str) -> list[str]:
    return _sized(value, 253, bool(_subdomain(value)), _SUBDOMAIN_TEXT)


def dns1123_subdomain_with_underscores(value: str) -> list[str]:
    return _sized(value, 253, bool(re.fullmatch(_UNDERSCORES, value)), _UNDERSCORES_TEXT)


def dns1035_label(value: str) -> list[str]:
    return _sized(value, 63, bool(_dns1035(value)), _DNS1035_TEXT)


def wildcard_subdomain(value: str) -> list[str]:
    return _sized(value, 253, bool(_wildcard(value)), _WILDCARD_TEXT)


def _unprefixed(value: str, prefix: bool) -> str:
    """generateName may end in a dash, which the generated part makes legal."""
    return value[:-2] + "a" if prefix and len(value) > 1 and value.endswith("-") else value


def name_is_subdomain(name: str, prefix: bool = False) -> list[str]:
    return dns1123_subdomain(_unprefixed(name, prefix))


def name_is_label(name: str, prefix: bool = False) -> list[str]:
    return dns1123_label(_unprefixed(name, prefix))


def name_is_dns1035(name: str, prefix: bool = False) -> list[str]:
    return dns1035_label(_unprefixed(name, prefix))


def path_segment_name(name: str, prefix: bool = False) -> list[str]:
    """The least that any name must be: one segment of a URL path."""
    if not prefix and name in (".", ".."):
        return [f"may not be '{name}'"]
    return [f"may not contain '{c}'" for c in ("/", "%") if c in name]


def _key(value: str, kind: str) -> list[str]:
    prefix, slash, name = value.partition("/")
    if not slash:
        prefix, name = "", value
    if "/" in name:
        return [f"a {kind} {_KEY_TEXT} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    faults = []
    if slash:
        text = _sized(prefix, 253, bool(_subdomain(prefix)), _SUBDOMAIN_TEXT, "bytes")
        found = text if prefix else ["must be non-empty"]
        faults += [f"prefix part {text}" for text in found]
    if not name:
        faults.append("name part must be non-empty")
    elif len(name) > 63:
        faults.append("name part " + too_long(63))
    if not _key_name(name):
        faults.append(f"name part {_KEY_TEXT}")
    return faults


@lru_cache(4096)
def label_key(value: str) -> tuple[str, ...]:
    return tuple(_key(value, "valid label key"))


def qualified_name(value: str) -> list[str]:
    """The same as a label's key, and told in the same words."""
    return list(label_key(value))


@lru_cache(4096)
def label_value(value: str) -> tuple[str, ...]:
    return tuple(_sized(value, 63, bool(_label_value(value)), _LABEL_VALUE_TEXT, "bytes"))


def config_map_key(value: str) -> list[str]:
    faults = _sized(value, 253, bool(_config_key(value)), _CONFIG_KEY_TEXT)
    if value == ".":
        faults.append("must not be '.'")
    elif value == "..":
        faults.append("must not be '..'")
    elif value.startswith(".."):
        faults.append("must not start with '..'")
    return faults


def env_name(value: str) -> list[str]:
    """Any printable ASCII but `=`, as the relaxed rule has it since 1.34."""
    if _relaxed_env_name(value):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def http_header_name(value: str) -> list[str]:
    if _http_header(value):
        return []
    text = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [_regex_error(text, _HTTP_HEADER, "X-Header-Name")]


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def port_name(value: str) -> list[str]:
    """An IANA service name."""
    faults = []
    if len(value) > 15:
        faults.append("must be no more than 15 characters")
    if not _port_name(value):
        faults.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any(c.islower() for c in value):
        faults.append("must contain at least one letter (a-z)")
    if "--" in value:
        faults.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        faults.append("must not begin or end with a hyphen")
    return faults


def ip_address(value: str) -> list[str]:
    """An address in a field that is older than the strict rules."""
    return addresses.legacy_ip(value)


def cidr(value: str) -> list[str]:
    """A CIDR in a field that is older than the strict rules."""
    return addresses.legacy_cidr(value)
