"""The formats of strings that a schema can ask for (`format: date-time`): a check for each name.

Source: k8s.io/kube-openapi pkg/validation/strfmt; k8s.io/apiextensions-apiserver pkg/apiserver/validation/formats.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

NUMERIC = {"integer": ("int32", "int64"), "number": ("float", "double")}
_LONG_UNITS = frozenset(
    ("ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "m", "min", "h", "hr", "hour", "d", "day", "w", "wk")
) | {"week"}
_OPEN_UNITS = ("nano", "micro", "milli", "sec", "min", "hour", "day", "week")  # also as beginnings: seconds, days
_GO_DURATION = re.compile(r"[-+]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)").fullmatch
_LOOSE_DURATION = re.compile(r"(\d+)\s*([A-Za-zµ]+)").findall
_TIME = re.compile(r"(\d{2}):(\d{2}):(\d{2})(?:.\d+)?(?:z|[+-]\d{2}:\d{2})").fullmatch
_EMAIL = re.compile(r"(?:[^<>]*<)?[^\s@<>\"(),:;\[\]\\]+@[^\s@<>\"(),:;\\]+>?").fullmatch
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}").fullmatch
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})").fullmatch
_SHORT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?").fullmatch
_LONG_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*").fullmatch
_CARD = re.compile(
    r"(?:4\d{12}(?:\d{3})?|5[1-5]\d{14}|(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|6(?:011|5\d\d)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|(?:2131|1800|35\d{3})\d{11}|6[27]\d{14})"
).fullmatch
_RGB_PART = r"\s*(?:0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"
_RGB = re.compile(rf"rgb\({_RGB_PART},{_RGB_PART},{_RGB_PART}\)").fullmatch


def _uuid(version: str = "") -> Callable[[str], bool]:
    third = f"{version}[0-9a-f]{{3}}" if version else "[0-9a-f]{4}"
    fourth = "[89ab][0-9a-f]{3}" if version in ("4", "5") else "[0-9a-f]{4}"
    match = re.compile(rf"[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{third}-?{fourth}-?[0-9a-f]{{12}}", re.IGNORECASE).fullmatch
    return lambda text: bool(match(text))


def is_date(text: str) -> bool:
    try:
        return len(text) == 10 and bool(date.fromisoformat(text))
    except ValueError:
        return False


def is_date_time(text: str) -> bool:
    day, _, rest = text.lower().partition("t")
    match = _TIME(rest.partition("t")[0]) if is_date(day) else None
    return bool(match) and match[1] <= "23" and match[2] <= "59" and match[3] <= "59"  # type: ignore[index]


def is_go_duration(text: str) -> bool:
    """`1h30m`, as Go's time.ParseDuration reads it."""
    return bool(_GO_DURATION(text))


def _is_duration(text: str) -> bool:
    if is_go_duration(text):
        return True
    units = (unit.lower() for _, unit in _LOOSE_DURATION(text))
    return any(unit in _LONG_UNITS or unit.startswith(_OPEN_UNITS) for unit in units)


def is_request_uri(text: str) -> bool:
    """An absolute URI or an absolute path, as Go's url.ParseRequestURI takes it."""
    if not text or any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        return False
    if re.search(r"%(?![0-9a-fA-F]{2})", text.partition("?")[0]):
        return False
    if text.startswith("/"):
        return True
    match = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", text)
    if match is None:
        return False
    try:
        parts = urlsplit(text)
        return parts.port is None or parts.port >= 0
    except ValueError:
        return False


def _is_hostname(text: str) -> bool:
    from apiserver.custom.patterns import matches

    return len(text) <= 255 and all(len(part) <= 63 for part in text.split(".")) and matches(_HOSTNAME, text)


_HOSTNAME = (
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}"
    r"[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
)


def _is_ipv4(text: str) -> bool:
    parts = text.split(".")
    return len(parts) == 4 and all(p.isascii() and p.isdigit() and len(p) < 6 and int(p) < 256 for p in parts)


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv6Address) and "%" not in text
    except ValueError:
        return False


def _is_cidr(text: str) -> bool:
    address, _, length = text.partition("/")
    if _is_ipv4(address):
        return length.isascii() and length.isdigit() and int(length) <= 32
    try:
        return "%" not in text and length.isdigit() and ip_network(text, strict=False).version == 6
    except ValueError:
        return False


def _is_mac(text: str) -> bool:
    for separator, digits, groups in ((":", 2, (6, 8, 20)), ("-", 2, (6, 8, 20)), (".", 4, (3, 4, 10))):
        parts = text.split(separator)
        if len(parts) in groups and all(re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", part) for part in parts):
            return True
    return False


def _isbn(length: int) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        digits = re.sub(r"[\s-]+", "", text)
        if length == 10:
            if not re.fullmatch(r"\d{9}[\dX]", digits):
                return False
            total = sum((i + 1) * (10 if d == "X" else int(d)) for i, d in enumerate(digits))
            return total % 11 == 0
        if not re.fullmatch(r"\d{13}", digits):
            return False
        return sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(digits)) % 10 == 0

    return check


def _is_card(text: str) -> bool:
    digits = re.sub(r"[^0-9]+", "", text)
    if not _CARD(digits):
        return False
    total = 0
    for i, d in enumerate(reversed(digits)):
        doubled = int(d) * 2 if i % 2 else int(d)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


CHECKS: dict[str, Callable[[str], bool]] = {
    "bsonobjectid": lambda text: bool(_OBJECT_ID(text)),
    "uri": is_request_uri,
    "email": lambda text: bool(_EMAIL(text)),
    "hostname": _is_hostname,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "cidr": _is_cidr,
    "mac": _is_mac,
    "uuid": _uuid(),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4"),
    "uuid5": _uuid("5"),
    "isbn": lambda text: _isbn(10)(text) or _isbn(13)(text),
    "isbn10": _isbn(10),
    "isbn13": _isbn(13),
    "creditcard": _is_card,
    "ssn": lambda text: bool(re.fullmatch(r"\d{3}[- ]?\d{2}[- ]?\d{4}", text)),
    "hexcolor": lambda text: bool(re.fullmatch(r"#?(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})", text)),
    "rgbcolor": lambda text: bool(_RGB(text)),
    "byte": lambda text: bool(_BASE64(text)),
    "password": lambda _: True,
    "date": is_date,
    "duration": _is_duration,
    "datetime": is_date_time,
    "k8sshortname": lambda text: len(text) <= 63 and bool(_SHORT_NAME(text)),
    "k8slongname": lambda text: len(text) <= 253 and bool(_LONG_NAME(text)),
}


def check_of(name: str) -> Callable[[str], bool] | None:
    """The check of a format's name; None where it is unknown, and so no check at all."""
    return CHECKS.get(name.replace("-", ""))


def is_known(name: str, type_: str) -> bool:
    """Whether a value of that type can have that format."""
    return check_of(name) is not None if type_ in ("", "string") else name in NUMERIC.get(type_, ())
