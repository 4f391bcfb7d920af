"""IP addresses and CIDRs as the API takes them: which texts are valid, which are only told off.

"Legacy" fields are older than the strict rules: they take addresses that are not in canonical form. Fields since then
do not. Source: k8s.io/apimachinery/pkg/util/validation/ip.go; KEP-4858.
"""

from __future__ import annotations

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NO_IP = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_NO_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_ZEROS = re.compile(r"(?<![0-9A-Fa-f:])0+(?=[0-9])")
_LAST_PART = re.compile(r"[0-9.]+$")


def parse_ip(text: str) -> Address | None:
    """The address, also where its octets have leading zeros or it is an IPv4 address in IPv6 form; None for others."""
    if "%" in text or not text.isascii():
        return None
    try:
        found = ipaddress.ip_address(_LAST_PART.sub(lambda m: _ZEROS.sub("", m.group()), text) if "." in text else text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def parse_cidr(text: str) -> tuple[Address, Network] | None:
    """The address before the slash, and its network."""
    head, slash, bits = text.partition("/")
    address = parse_ip(head)
    if address is None or not slash or not bits.isdecimal() or not bits.isascii():
        return None
    length = int(bits) - (96 if _is_mapped(head) else 0)
    if not 0 <= length <= address.max_prefixlen:
        return None
    return address, ipaddress.ip_network(f"{address}/{length}", strict=False)


def _is_mapped(text: str) -> bool:
    """An IPv4 address in the form of IPv6."""
    return ":" in text and (address := parse_ip(text)) is not None and address.version == 4


def _has_zeros(text: str) -> bool:
    return "." in text and _ZEROS.search(text.rpartition(":")[2]) is not None


def legacy_ip(text: str) -> list[str]:
    if parse_ip(text) is None:
        return [_NO_IP]
    if _has_zeros(text):
        return ["must not have leading 0s"]
    return ["must not be an IPv4-mapped IPv6 address"] if _is_mapped(text) else []


def strict_ip(text: str) -> list[str]:
    if faults := legacy_ip(text):
        return faults
    shown = str(parse_ip(text))
    return [] if text == shown else [f'must be in canonical form ("{shown}")']


def legacy_cidr(text: str) -> list[str]:
    if (parsed := parse_cidr(text)) is None:
        return [_NO_CIDR]
    address, network = parsed
    head, _, bits = text.partition("/")
    if _has_zeros(head) or (len(bits) > 1 and bits[0] == "0"):
        return ["must not have leading 0s in IP or prefix length"]
    if _is_mapped(head):
        return ["must not have an IPv4-mapped IPv6 address"]
    return [] if address == network.network_address else ["must not have bits set beyond the prefix length"]


def strict_cidr(text: str) -> list[str]:
    if faults := legacy_cidr(text):
        return faults
    parsed = parse_cidr(text)
    shown = str(parsed[1]) if parsed else ""
    return [] if text == shown else [f'must be in canonical form ("{shown}")']


_LINK_LOCAL_MULTICAST = {4: ipaddress.ip_network("224.0.0.0/24"), 6: ipaddress.ip_network("ff02::/16")}


def endpoint_ip(text: str) -> list[str]:
    """Not every address may be an endpoint: no unspecified, loopback or link-local one."""
    ip = parse_ip(text)
    if ip is None:
        return ["must be a valid IP address"]
    checks = [
        (ip.is_unspecified, f"may not be unspecified ({text})"),
        (ip.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (ip.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            ip in _LINK_LOCAL_MULTICAST[ip.version],
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    ]
    return [fault for found, fault in checks if found]


def ip_warnings(text: str, path: str) -> list[str]:
    """What is told of a valid address in an odd form."""
    address = parse_ip(text)
    if address is None:
        return []
    if _has_zeros(text) or _is_mapped(text):
        return [f'{path}: non-standard IP address "{text}" is invalid: use "{address}"']
    if address.version == 6 and str(address) != text:
        return [f'{path}: IPv6 address "{text}" should be in RFC 5952 canonical format ("{address}")']
    return []


def cidr_warnings(text: str, path: str) -> list[str]:
    if (parsed := parse_cidr(text)) is None:
        return []
    address, network = parsed
    found = []
    if address != network.network_address:
        single = f"{address}/{address.max_prefixlen}"
        text_ = f'CIDR value "{text}" is ambiguous in this context (should be "{network}" or "{single}"?)'
        found.append(f"{path}: {text_}")
    head, _, bits = text.partition("/")
    if _has_zeros(head) or (len(bits) > 1 and bits[0] == "0") or _is_mapped(head):
        found.append(f'{path}: non-standard CIDR value "{text}" is invalid: use "{network}"')
    if not found and address.version == 6 and text != str(network):
        found.append(f'{path}: IPv6 CIDR value "{text}" should be in RFC 5952 canonical format ("{network}")')
    return found


def interface_address(text: str) -> list[str]:
    """An address with the length of its network, in canonical form: `192.168.1.5/24`."""
    if (parsed := parse_cidr(text)) is None:
        return ["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"]
    shown = f"{parsed[0]}/{parsed[1].prefixlen}"
    return [] if text == shown else [f'must be in canonical form ("{shown}")']
