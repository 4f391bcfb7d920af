"""`kubarium setup`: what a machine lacks for a cluster. Each step is checked against the real thing, shown, and timed.

python -m kubarium.cluster.setup [--dev]
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kubarium.cluster import engine, images, preflight
from kubarium.cluster.dockerapi import DockerApi
from kubarium.cluster.images import run
from kubarium.cluster.paths import ClusterPaths
from kubarium.machinery.errors import ClusterError, ConfigError

Tell = Callable[[str, float], None]  # what was done, and how many seconds it took
PACKAGES = ("apiserver", "kubelet", "cni", "kubeproxy", "kubarium")
SHOWN_FROM_S = 0.5
SOURCE = Path(__file__).resolve().parents[2]
PROGRAMS = {"ip": "iproute2", "dpkg-deb": "dpkg"}
DEV_PROGRAMS = {
    "etcd": "etcd-server",
    "docker-compose": "docker-compose",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "curl": "curl",
    "docker": "docker.io",
    "wrk": "wrk",
    "nginx": "nginx-light",
    "openssl": "openssl",
}


def setup(tell: Tell, *, docker_socket: str = "", dev: bool = False) -> DockerApi:
    """Install, start and make what is missing; on a machine that has all of it, nothing happens.

    Raises ConfigError for what only the user can mend, ClusterError for a step that failed.
    """
    packages = missing_packages(docker_socket, dev=dev)
    if packages:
        _step(tell, f"Debian packages: {' '.join(packages)}", lambda: install(packages))
    preflight.check_root()
    docker = engine.find(docker_socket)
    if docker is None:
        _step(tell, f"Docker engine of our own at {engine.OUR_SOCKET}", engine.start_ours)
        docker = DockerApi(engine.OUR_SOCKET)
    ensure_images(docker, tell)
    ensure_bytecode(tell)
    return docker


def ensure_bytecode(tell: Tell, root: Path = SOURCE) -> None:
    """Compile our own modules, so that each command starts sooner, also where Python is told to write no byte code."""
    import compileall

    begun = time.monotonic()
    for package in PACKAGES:
        compileall.compile_dir(root / package, quiet=2)  # looks at the times of files first
    if (took_s := time.monotonic() - begun) > SHOWN_FROM_S:
        tell("byte code of kubarium itself", took_s)


def ensure_images(docker: DockerApi, tell: Tell, *, compose: bool = False) -> None:
    """Pull or make the base images that the engine lacks, and write down which names of tutorials they answer to."""
    wanted = images.IMAGES | (images.COMPOSE_IMAGES if compose else {})
    if compose and images.missing(docker, images.COMPOSE_IMAGES) and not _has_program("mmdebstrap"):
        _step(tell, "Debian packages: mmdebstrap", lambda: install(["mmdebstrap"]))
    for key in images.missing(docker, wanted):
        begun = time.monotonic()
        how = images.provide(docker, wanted[key])
        tell(f"image {wanted[key].image} {how}", time.monotonic() - begun)
    images.write_aliases(ClusterPaths.of("").aliases, docker)


def ensure_wheels(tell: Tell, root: Path = SOURCE) -> None:
    """compose/wheels: all Python packages of the lock file, so that the Compose image builds without an index."""
    lock, folder = root / "requirements.lock", root / "compose" / "wheels"
    stamp = folder / "requirements.lock"
    if not lock.exists():
        raise ConfigError(f"{lock} is not there: wheels are made in a clone of the sources")
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return

    def make() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "pip", "wheel", "-q", "--require-hashes", "-r", str(lock), "-w", str(folder))
        shutil.copy(lock, stamp)

    _step(tell, f"Python packages for Compose in {folder}", make)


def missing_packages(docker_socket: str = "", *, dev: bool = False) -> list[str]:
    """Debian packages whose programs or libraries are not there, whoever may have installed them."""
    programs = PROGRAMS | (DEV_PROGRAMS if dev else {})
    packages = [package for program, package in programs.items() if not _has_program(program)]
    if not _has_library("libnftables.so.1"):
        packages.append("libnftables1")
    if not _has_program("dockerd") and engine.find(docker_socket) is None:
        packages.append("docker.io")
    return packages


def install(packages: Sequence[str]) -> None:
    """apt-get install, after an update if it must be. Raises ConfigError where that is not possible."""
    text = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise ConfigError(
            f"needed here: {text} (names of Debian); "
            "install them with this system's package manager, then run this again"
        )
    if os.geteuid() != 0:
        raise ConfigError(
            f"needed here: {text}; install them with 'sudo apt-get install {text}', or run this with sudo"
        )
    command = (
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        *packages,
    )
    try:
        run(*command)
    except ClusterError:
        run("apt-get", "update", "-qq")  # a fresh machine has no package lists, an old one outdated ones
        run(*command)


def _step(tell: Tell, text: str, work: Callable[[], None]) -> None:
    begun = time.monotonic()
    work()
    tell(text, time.monotonic() - begun)


def _has_program(name: str) -> bool:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def _has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def show_step(text: str, seconds: float) -> None:
    """One line of progress."""
    print(f"  {text:<58} {seconds:.1f} s", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    try:
        setup(show_step, dev="--dev" in arguments)
    except ClusterError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
