"""The command line of faults: chaos kill-node, chaos heal."""

from __future__ import annotations

import time

import click

from kubarium.cluster.commands import name_option, one_line_errors


@click.group("chaos")
def chaos_cmd() -> None:
    """Break a running cluster, and mend it."""


@chaos_cmd.command("kill-node")
@click.argument("node")
@name_option
@one_line_errors
def kill_node_cmd(node: str, name: str) -> None:
    """Cut the power of NODE: its link, processes and containers die at once."""
    from kubarium.chaos import faults
    from kubarium.cluster.preflight import check_root

    check_root()
    begun = time.monotonic()
    faults.kill_node(*faults.load(name), node)
    click.echo(f"{node} killed in {time.monotonic() - begun:.2f} s; 'kubarium chaos heal {node}' brings it back")


@chaos_cmd.command("heal")
@click.argument("node", required=False)
@name_option
@one_line_errors
def heal_cmd(node: str | None, name: str) -> None:
    """Bring NODE (every killed node) back, empty and Ready."""
    from kubarium.chaos import faults
    from kubarium.cluster.preflight import check_root

    check_root()
    begun = time.monotonic()

    def show(healed: str) -> None:
        click.echo(f"{healed} Ready after {time.monotonic() - begun:.2f} s")

    spec, paths = faults.load(name)
    killed = faults.killed_nodes(spec, paths)
    if node is not None:
        faults.heal_node(spec, paths, node)
        show(node)
    elif killed:
        faults.heal_all(spec, paths, show)
    else:
        click.echo(f"cluster {name}: no node is killed")


COMMANDS: dict[str, click.Command] = {"chaos": chaos_cmd}
