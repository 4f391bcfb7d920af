"""What must be there before anything is started; each fault is one line: what is wrong and how to mend it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import socket
from collections.abc import Iterator

from kubarium.cluster import cgroups, namespaces
from kubarium.cluster.dockerapi import DockerApi
from kubarium.cluster.images import PAUSE, TAG
from kubarium.cluster.paths import RUN, home
from kubarium.cluster.spec import ClusterSpec
from kubarium.machinery.errors import ClusterError, ConfigError, NetworkError

OLDEST_KERNEL = (5, 10)
FIRST_API_PORT, LAST_API_PORT = 6443, 6543
PROVEN = RUN / "locks" / "kernel"  # in /run: a new boot is tried again
NFT_PROBE = """\
add table ip kubarium-probe
add map ip kubarium-probe services { type ipv4_addr . inet_proto . inet_service : verdict ; }
add map ip kubarium-probe endpoints { type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service ; }
add chain ip kubarium-probe prerouting { type nat hook prerouting priority -100 ; }
add chain ip kubarium-probe postrouting { type nat hook postrouting priority 100 ; }
add rule ip kubarium-probe prerouting ip daddr . ip protocol . th dport vmap @services
add rule ip kubarium-probe prerouting meta mark set numgen random mod 2
add rule ip kubarium-probe postrouting masquerade
add table bridge kubarium-probe
add chain bridge kubarium-probe forward { type filter hook forward priority 0 ; }
add rule bridge kubarium-probe forward ip saddr 10.0.0.0/8 drop
"""


def check_root() -> None:
    """Raise ConfigError unless we are root."""
    if os.geteuid() != 0:
        raise ConfigError("kubarium makes network namespaces and needs root: run it with sudo")


def check_home() -> None:
    """Raise ConfigError unless the folder of the clusters' state is there or can be made."""
    folder = home() / "clusters"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(
            f"KUBARIUM_HOME={home()}: cannot make {folder} ({err.strerror}); set it to a folder that can be written to"
        ) from err


def check_kernel(release: str | None = None) -> None:
    """Raise ConfigError for a kernel too old, or one that cannot do what a node needs; tried once a boot."""
    release = platform.release() if release is None else release
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if platform.system() != "Linux" or numbers < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        raise ConfigError(
            f"the kernel is {platform.system()} {release}: Linux {oldest} or newer is needed; "
            "upgrade it or use a newer machine"
        )
    if not cgroups.hierarchies().joined:
        raise ConfigError("no cgroups at /sys/fs/cgroup: mount cgroup v2 there (mount -t cgroup2 none /sys/fs/cgroup)")
    if PROVEN.exists() and PROVEN.read_text() == release:
        return
    if reason := try_kernel():
        raise ConfigError(reason)
    PROVEN.parent.mkdir(parents=True, exist_ok=True)
    PROVEN.write_text(release)


def try_kernel() -> str:
    """Make a network namespace with the rules of a node in a child process. Returns what failed, "" if nothing."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, _try_in_child().encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    return (
        text
        if os.waitstatus_to_exitcode(status) == 0
        else "the test of the kernel's nftables crashed: reinstall libnftables1"
    )


def _try_in_child() -> str:
    try:
        namespaces.new_netns()
    except NetworkError as err:
        return f"cannot {err}: a kernel with CONFIG_NET_NS and the capability CAP_SYS_ADMIN are needed"
    try:
        import nftables

        code, _, error = nftables.Nftables().cmd(NFT_PROBE)
    except Exception as err:
        return f"libnftables cannot be used ({err}): install it (Debian, Ubuntu: apt-get install libnftables1)"
    if code:
        return (
            f"the kernel lacks nftables features that kube-proxy needs ({error.splitlines()[0].strip()}): "
            "load its modules (modprobe -a nf_tables nft_nat nft_masq nft_numgen) or use a kernel that has them"
        )
    return ""


def check_engine(docker: DockerApi) -> None:
    """Raise ConfigError unless a Docker engine answers and holds the image of the anchors."""
    if not docker.answers():
        raise ConfigError(
            f"no Docker engine answers at {docker.path}: start it, or let 'kubarium setup' install and start one"
        )
    if docker.image_labels(f"{PAUSE}:{TAG}") is None:
        raise ConfigError(f"the Docker engine at {docker.path} lacks the image {PAUSE}: 'kubarium setup' makes it")


def check_program(name: str, package: str) -> None:
    """Raise ConfigError unless a program is on PATH."""
    import shutil

    if shutil.which(name) is None:
        raise ConfigError(f"{name} is not installed: apt-get install {package}")


def bind_api_port(spec: ClusterSpec, wanted: int = 0) -> socket.socket:
    """The API server's listening socket on 127.0.0.1: of the port asked for, the remembered one, or the first free.

    Raises ConfigError when the port asked for is in use. A remembered port that is in use is changed for another.
    """
    if wanted:
        with contextlib.suppress(OSError):
            return _listen(wanted)
        raise ConfigError(
            f"--api-port {wanted}: port {wanted} of 127.0.0.1 is in use; "
            f"stop its user ('ss -ltnp sport = :{wanted}' shows it) or choose another port"
        )
    for port in _candidates(spec):
        with contextlib.suppress(OSError):
            return _listen(port)
    raise ConfigError(
        f"ports {FIRST_API_PORT} to {LAST_API_PORT} of 127.0.0.1 are all in use; choose another with --api-port"
    )


def _candidates(spec: ClusterSpec) -> Iterator[int]:
    if spec.api_port:
        yield spec.api_port
    yield from range(FIRST_API_PORT, LAST_API_PORT + 1)


def _listen(port: int) -> socket.socket:
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen(1024)
    except OSError:
        sock.close()
        raise
    return sock


def check_lan(spec: ClusterSpec, routes: list[str]) -> None:
    """Raise ConfigError when the host has got routes to the remembered LAN since; `routes` are those it has."""
    if routes:
        raise ClusterError(
            f"the host now has a route to {', '.join(routes)}, "
            f"the network of cluster {spec.name}'s nodes: remove it, or 'kubarium down' and 'up' choose another network"
        )
