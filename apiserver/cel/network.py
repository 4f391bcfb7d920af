"""IP addresses, networks, URLs and named formats.

Source: Kubernetes documentation, "Kubernetes IP address library", "CIDR", "URL" and "format library"; golang net/netip.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from apiserver.cel.values import CelError, Maybe, Opaque
from apiserver.custom import formats
from apiserver.registry import names


class IP(Opaque):
    type_name = "net.IP"
    __slots__ = ("address",)

    def __init__(self, address: IPv4Address | IPv6Address) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IP) and other.address == self.address

    __hash__ = None  # type: ignore[assignment]

    def string(self) -> str:
        return str(self.address)


class CIDR(Opaque):
    type_name = "net.CIDR"
    __slots__ = ("address", "length")

    def __init__(self, address: IPv4Address | IPv6Address, length: int) -> None:
        self.address = address
        self.length = length

    @property
    def network(self) -> IPv4Network | IPv6Network:
        return ip_network(f"{self.address}/{self.length}", strict=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CIDR) and (other.address, other.length) == (self.address, self.length)

    __hash__ = None  # type: ignore[assignment]

    def string(self) -> str:
        return f"{self.address}/{self.length}"


class Url(Opaque):
    type_name = "kubernetes.URL"
    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and other.text == self.text

    __hash__ = None  # type: ignore[assignment]


class Format(Opaque):
    """`check` gives the faults of a text."""

    type_name = "kubernetes.NamedFormat"
    __slots__ = ("check", "name", "regex_size")

    def __init__(self, name: str, check: Callable[[str], list[str]], regex_size: int) -> None:
        self.name = name
        self.check = check
        self.regex_size = regex_size


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def parse_ip(text: Any) -> IP:
    """No zones, no leading zeros, no IPv4 in IPv6. Raises CelError."""
    try:
        found = ip_address(_text(text))
    except ValueError as err:
        raise CelError(
            f"IP Address {_quoted(text)} parse error during conversion from string: {_ip_fault(text)}"
        ) from err
    if isinstance(found, IPv6Address) and found.scope_id:
        raise CelError(f"IP address {_quoted(text)} with zone value is not allowed")
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        raise CelError(f"IPv4-mapped IPv6 address {_quoted(text)} is not allowed")
    return IP(found)


def _quoted(text: Any) -> str:
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _ip_fault(text: str) -> str:
    about = f"ParseAddr({_quoted(text)}): "
    if "." not in text and ":" not in text:
        return about + "unable to parse IP"
    if ":" not in text:
        parts = text.split(".")
        if any(part and not part.isdigit() for part in parts):
            return about + "unexpected character (at " + _quoted(re.sub(r"^[0-9.]*", "", text)) + ")"
        if len(parts) < 4:
            return about + "IPv4 address too short"
        if len(parts) > 4:
            return about + "IPv4 address too long"
        if any(len(part) > 1 and part[0] == "0" for part in parts):
            return about + "IPv4 field has octet with leading zero"
        return about + "IPv4 field has value >255"
    return about + "unable to parse IP"


def is_ip(text: Any) -> bool:
    try:
        parse_ip(text)
    except CelError:
        return False
    return True


def _address(value: Any) -> IPv4Address | IPv6Address:
    if isinstance(value, CIDR):
        raise TypeError
    found: IPv4Address | IPv6Address = value.address
    return found


def ip(value: Any) -> IP:
    return IP(value.address) if isinstance(value, CIDR) else parse_ip(value)


def is_canonical(text: Any) -> bool:
    return bool(parse_ip(text).string() == text)


def is_global_unicast(value: Any) -> bool:
    found = _address(value)
    broadcast = isinstance(found, IPv4Address) and str(found) == "255.255.255.255"
    odd = found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local
    return not (odd or broadcast)


def parse_cidr(text: Any) -> CIDR:
    address, slash, length = _text(text).partition("/")
    about = "network address parse error during conversion from string: "
    about = f"{about}{about}netip.ParsePrefix({_quoted(text)}): "
    if not slash:
        raise CelError(about + "no '/'")
    try:
        found = ip_address(address)
    except ValueError as err:
        raise CelError(about + _ip_fault(address)) from err
    if isinstance(found, IPv6Address) and (found.scope_id or found.ipv4_mapped is not None):
        raise CelError(f"IPv4-mapped IPv6 address {_quoted(text)} is not allowed")
    if not length.isdigit() or (len(length) > 1 and length[0] == "0"):
        raise CelError(f"{about}bad bits after slash: {_quoted(length)}")
    if int(length) > found.max_prefixlen:
        raise CelError(about + "prefix length out of range")
    return CIDR(found, int(length))


def is_cidr(text: Any) -> bool:
    try:
        parse_cidr(text)
    except CelError:
        return False
    return True


def contains_ip(holder: Any, value: Any) -> bool:
    return _parsed(value, IP, parse_ip).address in holder.network


def contains_cidr(holder: Any, value: Any) -> bool:
    found = _parsed(value, CIDR, parse_cidr)
    return found.length >= holder.length and found.network.network_address in holder.network


def _parsed(value: Any, type_: type, parse: Callable[[Any], Any]) -> Any:
    """What cannot be parsed is, in upstream's words, an argument of a wrong type."""
    if isinstance(value, type_):
        return value
    try:
        return parse(value)
    except CelError as err:
        raise TypeError from err


def masked(value: Any) -> CIDR:
    return CIDR(value.network.network_address, value.length)


# --- URLs

_ESCAPED = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@\[\]/%]*").fullmatch
_NOT_IN_HOST = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@\[\]%<>\"\u0080-\U0010ffff]").search


def parse_url(text: Any) -> Url:
    about = f"URL parse error during conversion from string: parse {_quoted(_text(text))}: "
    _, slashes, rest = text.partition("://")
    if slashes and not text.startswith("/") and (bad := _NOT_IN_HOST(re.split("[/?#]", rest, maxsplit=1)[0])):
        raise CelError(f"{about}invalid character {_quoted(bad[0])} in host name")
    if not formats.is_request_uri(text):
        raise CelError(f"{about}invalid URI for request")
    return Url(text)


def _query(value: Any) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for key, item in parse_qsl(urlsplit(value.text).query, keep_blank_values=True):
        out.setdefault(key, []).append(item)
    return out


def _escaped_path(value: Any) -> str:
    path = urlsplit(value.text).path
    return path if _ESCAPED(path) else quote(unquote(path), safe="$&+,/:;=@-_.~")


def _host(value: Any) -> str:
    return unquote(urlsplit(value.text).netloc.rpartition("@")[2])


def _hostname(value: Any) -> str:
    host = _host(value)
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _port(value: Any) -> str:
    return _host(value).rpartition("]")[2].partition(":")[2]


# --- formats


def _named(name: str, check: Callable[[str], Any], size: int) -> Format:
    return Format(name, lambda text: list(check(text)), size)


def _schema_format(name: str, text: str, size: int) -> Format:
    check = formats.check_of(name)
    return Format(name, lambda value: [] if check is None or check(value) else [text], size)


FORMATS: dict[str, Format] = {
    "dns1123Label": _named("DNS1123Label", names.name_is_label, 30),
    "dns1123Subdomain": _named("DNS1123Subdomain", names.name_is_subdomain, 60),
    "dns1035Label": _named("DNS1035Label", names.name_is_dns1035, 30),
    "qualifiedName": _named("QualifiedName", names.qualified_name, 60),
    "dns1123LabelPrefix": _named("DNS1123LabelPrefix", lambda text: names.name_is_label(text, True), 30),
    "dns1123SubdomainPrefix": _named("DNS1123SubdomainPrefix", lambda text: names.name_is_subdomain(text, True), 60),
    "dns1035LabelPrefix": _named("DNS1035LabelPrefix", lambda text: names.name_is_dns1035(text, True), 30),
    "labelValue": _named("LabelValue", names.label_value, 40),
    "uri": _named(
        "URI",
        lambda text: [] if formats.is_request_uri(text) else [f"parse {_quoted(text)}: invalid URI for request"],
        1103,
    ),
    "uuid": _schema_format("uuid", "does not match the UUID format", 70),
    "byte": _schema_format("byte", "invalid base64", 84),
    "date": _schema_format("date", "invalid date", 70),
    "datetime": _schema_format("datetime", "invalid datetime", 70),
}


def validate(found: Any, text: Any) -> Maybe:
    faults = found.check(_text(text))
    return Maybe(faults) if faults else Maybe()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ip": ip,
    "isIP": is_ip,
    "ip.isCanonical": is_canonical,
    "family": lambda value: _address(value).version,
    "isUnspecified": lambda value: _address(value).is_unspecified,
    "isLoopback": lambda value: _address(value).is_loopback,
    "isLinkLocalMulticast": lambda value: _address(value).is_multicast and _is_local_scope(value),
    "isLinkLocalUnicast": lambda value: _address(value).is_link_local,
    "isGlobalUnicast": is_global_unicast,
    "cidr": parse_cidr,
    "isCIDR": is_cidr,
    "containsIP": contains_ip,
    "containsCIDR": contains_cidr,
    "prefixLength": lambda value: value.length,
    "masked": masked,
    "url": parse_url,
    "isURL": lambda text: formats.is_request_uri(_text(text)),
    "getScheme": lambda value: urlsplit(value.text).scheme,
    "getHost": _host,
    "getHostname": _hostname,
    "getPort": _port,
    "getEscapedPath": _escaped_path,
    "getQuery": _query,
    "validate": validate,
    "format.named": lambda name: Maybe(FORMATS[name]) if name in FORMATS else Maybe(),
    **{f"format.{name}": (lambda found=found: found) for name, found in FORMATS.items()},
}


def _is_local_scope(value: Any) -> bool:
    """224.0.0.0/24, ff02::/16."""
    found = _address(value)
    if isinstance(found, IPv4Address):
        return found in IPv4Network("224.0.0.0/24")
    return found in IPv6Network("ff02::/16")
