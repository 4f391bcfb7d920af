"""The command line of the lab: up, down, stop, start, status, kubeconfig, token, setup, images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import click

from kubarium.machinery.errors import ClusterError

P = ParamSpec("P")
R = TypeVar("R")


def one_line_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Show what kubarium itself detects as its text, without a traceback, and exit with 1."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ClusterError as err:
            raise click.ClickException(str(err)) from err

    return wrapped


name_option = click.option(
    "--name", default="default", show_default=True, envvar="KUBARIUM_CLUSTER", help="Name of the cluster."
)
verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show every step and when it was done.")


@click.command("up")
@name_option
@click.option("--workers", type=int, help="Worker nodes; with 0 the control plane runs pods.  [default: 2]")
@click.option(
    "--store", type=click.Choice(["sqlite", "etcd"]), help="Where the API server keeps objects.  [default: sqlite]"
)
@click.option(
    "--timings",
    type=click.Choice(["fast", "upstream"]),
    help="Grace periods: seconds, or those of Kubernetes.  [default: fast]",
)
@click.option("--pod-cidr", help="Addresses of pods.  [default: 10.244.0.0/16]")
@click.option("--service-cidr", help="Addresses of Services.  [default: 10.96.0.0/16]")
@click.option("--docker-socket", default="", help="Unix socket of the Docker engine.  [default: one that answers]")
@click.option(
    "--api-port",
    type=click.IntRange(1, 65535),
    help="Port of the API server on 127.0.0.1.  [default: first free from 6443]",
)
@click.option("--setup", "with_setup", is_flag=True, help="First set up what the machine lacks.")
@verbose_option
@one_line_errors
def up_cmd(name: str, api_port: int | None, docker_socket: str, with_setup: bool, verbose: bool, **wishes: Any) -> None:
    """Start a cluster, and wait until it is usable."""
    from kubarium.cluster.up import up

    if with_setup:
        from kubarium.cluster.setup import setup, show_step

        setup(show_step, docker_socket=docker_socket)
    named = {field: value for field, value in wishes.items() if value is not None}
    if docker_socket:
        named["docker_socket"] = docker_socket.removeprefix("unix://")
    _show(up(name, named, _progress(verbose), api_port=api_port or 0))


@click.command("start")
@name_option
@verbose_option
@one_line_errors
def start_cmd(name: str, verbose: bool) -> None:
    """Bring back a cluster that was stopped, or that the machine's reboot ended."""
    from kubarium.cluster.up import up

    _show(up(name, {}, _progress(verbose), must_exist=True))


@click.command("stop")
@name_option
@one_line_errors
def stop_cmd(name: str) -> None:
    """End a cluster's processes and containers; its state stays for `start`."""
    from kubarium.cluster.down import stop

    stop(name)
    click.echo(f"cluster {name} stopped; 'kubarium start --name {name}' brings it back")


@click.command("down")
@name_option
@click.option("--all", "everything", is_flag=True, help="Every cluster on this machine.")
@one_line_errors
def down_cmd(name: str, everything: bool) -> None:
    """Remove a cluster without a trace."""
    from kubarium.cluster.down import all_names, down

    names = all_names() if everything else [name]
    for each in names:
        found = down(each)
        click.echo(f"cluster {each} removed" if found else f"cluster {each}: nothing to remove")


@click.command("status")
@name_option
@click.option("--all", "everything", is_flag=True, help="Every cluster on this machine.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@one_line_errors
def status_cmd(name: str, everything: bool, output: str) -> None:
    """Show a cluster's nodes and processes."""
    from kubarium.cluster.down import all_names
    from kubarium.cluster.status import describe, status

    seen = _all_seen(all_names(), status) if everything else [status(name)]
    if output == "json":
        import json

        click.echo(json.dumps(seen if everything else seen[0], indent=2))
        return
    for each in seen:
        for line in describe(each):
            click.echo(line)


@click.command("kubeconfig")
@name_option
@one_line_errors
def kubeconfig_cmd(name: str) -> None:
    """Print a kubeconfig for kubectl and other clients."""
    click.echo(_read(name, lambda paths: paths.kubeconfig("admin").read_text()), nl=False)


@click.command("token")
@name_option
@one_line_errors
def token_cmd(name: str) -> None:
    """Print the administrator's bearer token."""
    from kubarium.cluster.identities import admin_token

    click.echo(_read(name, admin_token))


@click.command("setup")
@click.option("--dev", is_flag=True, help="Also what the tests need.")
@click.option("--docker-socket", default="", help="Unix socket of the Docker engine.  [default: one that answers]")
@one_line_errors
def setup_cmd(dev: bool, docker_socket: str) -> None:
    """Set up what this machine lacks: packages, a Docker engine, base images."""
    from kubarium.cluster.setup import setup, show_step

    setup(show_step, docker_socket=docker_socket, dev=dev)


@click.command("images")
@click.option("--docker-socket", default="", help="Unix socket of the Docker engine.  [default: one that answers]")
@click.option("--compose/--no-compose", default=True, show_default=True, help="Also what the Compose file builds on.")
@one_line_errors
def images_cmd(docker_socket: str, compose: bool) -> None:
    """Pull the base images, or make stand-ins from Debian packages; for Compose also a Python image, etcd, wheels."""
    from kubarium.cluster import engine
    from kubarium.cluster.preflight import check_root
    from kubarium.cluster.setup import ensure_images, ensure_wheels, show_step

    check_root()
    ensure_images(engine.ensure(docker_socket), show_step, compose=compose)
    if compose:
        ensure_wheels(show_step)


def _all_seen(names: list[str], status: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    """Each cluster's status; one that is damaged, or has just gone, hides no other."""
    seen = []
    for name in names:
        try:
            seen.append(status(name))
        except ClusterError as err:
            click.echo(f"cluster {name}: {err}", err=True)
    return seen


def _read(name: str, get: Callable[[Any], str]) -> str:
    from kubarium.cluster.paths import ClusterPaths
    from kubarium.cluster.spec import check_name
    from kubarium.machinery.errors import ConfigError

    check_name(name)
    try:
        return get(ClusterPaths.of(name))
    except PermissionError:
        raise ConfigError(f"the secrets of cluster {name} are root's: run this with sudo") from None
    except FileNotFoundError:
        raise ConfigError(f"there is no cluster {name}: 'kubarium up --name {name}' makes one") from None


def _progress(verbose: bool) -> Callable[[float, str, bool], None]:
    def report(at_s: float, text: str, detail: bool) -> None:
        if verbose or not detail:
            click.echo(f"{at_s:7.2f} s  {text}")

    return report


def _show(started: Any) -> None:
    from kubarium.cluster.network import plan_lan
    from kubarium.cluster.up import next_commands

    spec = started.spec
    click.echo(f"\nNodes of cluster {spec.name}:")
    for link in plan_lan(spec).links:
        click.echo(f"  {link.node:<15} {'killed' if link.node in started.dead else 'Ready':<8} {link.address}")
    click.echo("\nTry next:")
    for line in next_commands(spec):
        click.echo(f"  {line}")
    what = "was up already; checked" if started.was_up else "usable"
    click.echo(f"\nCluster {spec.name} {what} after {started.total_s:.2f} s.")


COMMANDS: dict[str, click.Command] = {
    "up": up_cmd,
    "down": down_cmd,
    "stop": stop_cmd,
    "start": start_cmd,
    "status": status_cmd,
    "kubeconfig": kubeconfig_cmd,
    "token": token_cmd,
    "setup": setup_cmd,
    "images": images_cmd,
}
