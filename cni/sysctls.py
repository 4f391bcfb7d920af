"""Every sysctl that pod networking relies on, set on each node: a new namespace inherits what the host happens to
have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kubarium.machinery.errors import ConfigError

ROOT = Path("/proc/sys")

OPTIONAL = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")


def plan_sysctls(lan_interface: str) -> dict[str, str]:
    """Name below /proc/sys -> value."""
    wanted = {"net/ipv4/ip_forward": "1"}  # first: it resets other values
    for interface in ("all", "default", lan_interface):
        conf = f"net/ipv4/conf/{interface}"
        wanted |= {
            f"{conf}/rp_filter": "0",  # answers may leave by another link than requests came by
            f"{conf}/send_redirects": "0",  # pods and nodes on one LAN are routed on purpose
            f"{conf}/accept_redirects": "0",
            f"{conf}/route_localnet": "0",
        }
    return wanted | dict.fromkeys(OPTIONAL, "0")  # pods are routed, never bridged


def apply_sysctls(wanted: Mapping[str, str], root: Path = ROOT) -> None:
    """Set what differs. A value that cannot be written is a fault only where it is the wrong one."""
    for name, value in wanted.items():
        path = root / name
        if name in OPTIONAL and not path.exists():
            continue
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except OSError as err:
            raise ConfigError(
                f"sysctl {name.replace('/', '.')} must be {value}: {err.strerror}; "
                "run the node privileged, with a writable /proc/sys"
            ) from err
