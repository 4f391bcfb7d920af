"""The `kubarium` command. Nothing is imported before it is known what is asked for: a command must feel instant."""

from __future__ import annotations

import sys

API_COMMANDS = {
    "get": "kubarium.cli.get",
    "describe": "kubarium.cli.describe",
    "apply": "kubarium.cli.apply",
    "create": "kubarium.cli.create",
    "delete": "kubarium.cli.delete",
    "logs": "kubarium.cli.logs",
    "exec": "kubarium.cli.execute",
    "scale": "kubarium.cli.scale",
    "rollout": "kubarium.cli.rollout",
    "label": "kubarium.cli.label",
    "wait": "kubarium.cli.wait",
    "api-resources": "kubarium.cli.about",
    "version": "kubarium.cli.about",
}
CLUSTER_COMMANDS = {
    "up": "kubarium.cluster.commands:up_cmd",
    "down": "kubarium.cluster.commands:down_cmd",
    "stop": "kubarium.cluster.commands:stop_cmd",
    "start": "kubarium.cluster.commands:start_cmd",
    "status": "kubarium.cluster.commands:status_cmd",
    "kubeconfig": "kubarium.cluster.commands:kubeconfig_cmd",
    "token": "kubarium.cluster.commands:token_cmd",
    "images": "kubarium.cluster.commands:images_cmd",
    "setup": "kubarium.cluster.commands:setup_cmd",
    "chaos": "kubarium.chaos.commands:chaos_cmd",
}
HELP = """\
kubarium: a Kubernetes cluster under glass.

Cluster:    up, down, stop, start, status, kubeconfig, token, images, setup, chaos
API alone:  api
Objects:    get, describe, apply, create, delete, label, scale, rollout, wait
Pods:       logs, exec
About:      api-resources, version

Every command explains itself with --help. Which cluster: --cluster NAME (default: "default"), or --kubeconfig FILE.
"""
FLAGS_BEFORE = ("--cluster", "--kubeconfig", "--context", "--namespace", "-n")


def entry() -> int:
    """The console script; gives the exit code."""
    return main(sys.argv[1:])


def main(argv: list[str]) -> int:
    """Run one command line."""
    argv = _command_first(argv)
    command = argv[0] if argv else "help"
    if command in ("help", "--help", "-h"):
        if len(argv) > 1:
            return main([argv[1], "--help"])
        print(HELP, end="")
        return 0
    if command == "--version":
        command, argv = "version", ["version", "--client"]
    if command in API_COMMANDS:
        from kubarium.cli.run import run

        return run(command, API_COMMANDS[command], argv[1:])
    if command == "api":
        from kubarium.cluster.api import main as api

        return api(argv[1:])
    if command in CLUSTER_COMMANDS:
        return _cluster_command(command, argv[1:])
    print(f'error: unknown command "{command}" for "kubarium"; see: kubarium --help', file=sys.stderr)
    return 1


def _command_first(argv: list[str]) -> list[str]:
    """`kubarium -n kube-system get pods` means `kubarium get pods -n kube-system`."""
    flags: list[str] = []
    rest = list(argv)
    while rest and rest[0].split("=", 1)[0] in FLAGS_BEFORE:
        take = 1 if "=" in rest[0] else 2
        flags, rest = flags + rest[:take], rest[take:]
    return rest[:1] + flags + rest[1:]


def _cluster_command(command: str, argv: list[str]) -> int:
    from importlib import import_module

    module, _, attribute = CLUSTER_COMMANDS[command].partition(":")
    try:
        click_command = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as err:
        print(f"error: the command {command!r} is not in this installation: {err}", file=sys.stderr)
        return 1
    if "--cluster" in argv or any(word.startswith("--cluster=") for word in argv):
        argv = [word.replace("--cluster", "--name", 1) if word.startswith("--cluster") else word for word in argv]
    code = click_command.main(args=argv, prog_name=f"kubarium {command}", standalone_mode=True)
    return int(code or 0)


if __name__ == "__main__":
    sys.exit(entry())
