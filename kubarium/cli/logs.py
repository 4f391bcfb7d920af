"""`kubarium logs`: what containers wrote."""

from __future__ import annotations

import sys
import threading
from typing import Any

from kubarium.cli import observe, pods, target
from kubarium.cli.flags import Parser
from kubarium.cli.http import Server
from kubarium.cli.run import Exit, UsageError, describe_error
from kubarium.machinery.errors import ApiError, ClusterError

TAIL_WITH_SELECTOR = 10
MOST_STREAMS = 5


def main(command: str, argv: list[str]) -> None:
    args = _parser().parse(argv)
    found_target = target.find(args)
    server = Server(found_target)
    namespace = args.namespace or server.namespace
    if bool(args.words) == bool(args.selector):
        raise UsageError("expected 'logs (POD | TYPE/NAME) [CONTAINER_NAME]' or a label selector (-l)")
    if args.selector:
        found = pods.selected(server, namespace, args.selector)
        if not found:
            print(f"No resources found in {namespace} namespace.", file=sys.stderr)
    else:
        found = [pods.find(server, namespace, args.words[0])]
    wanted = args.container or (args.words[1] if len(args.words) > 1 else "")
    streams = [
        (pod, name)
        for pod in found
        for name in (pods.containers(pod) if args.all_containers else [pods.container(pod, wanted)])
    ]
    _print_all(found_target, args, namespace, streams)


def _parser() -> Parser:
    parser = Parser("logs", "POD | TYPE/NAME | -l SELECTOR [flags]", "Show what containers wrote.")
    parser.add_argument("words", nargs="*", metavar="POD [CONTAINER]")
    parser.add_selector()
    parser.add_argument("-c", "--container", default="")
    parser.add_argument("--all-containers", action="store_true")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more is written")
    parser.add_argument("-p", "--previous", action="store_true", help="of the container before its last restart")
    parser.add_argument("--tail", type=int, default=None, help="only the last lines, -1: all")
    parser.add_argument("--since", default="", help="only what is newer than, for example, 5m")
    parser.add_argument("--since-time", default="")
    parser.add_argument("--timestamps", action="store_true")
    parser.add_argument("--limit-bytes", type=int, default=0)
    parser.add_argument("--prefix", action="store_true", help="begin lines with pod and container")
    parser.add_argument("--max-log-requests", type=int, default=MOST_STREAMS)
    parser.add_argument("--ignore-errors", action="store_true")
    return parser


def _query(args: Any, container: str) -> dict[str, str]:
    tail = args.tail if args.tail is not None else (TAIL_WITH_SELECTOR if args.selector else -1)
    return {
        "container": container,
        "follow": "true" if args.follow else "",
        "previous": "true" if args.previous else "",
        "timestamps": "true" if args.timestamps else "",
        "tailLines": str(tail) if tail >= 0 else "",
        "sinceSeconds": str(max(1, round(observe.seconds(args.since)))) if args.since else "",
        "sinceTime": args.since_time,
        "limitBytes": str(args.limit_bytes or ""),
    }


def _print_all(found_target: target.Target, args: Any, namespace: str, streams: list[tuple[Any, str]]) -> None:
    if not args.follow or len(streams) == 1:
        for pod, name in streams:
            _print(Server(found_target), args, namespace, pod, name)
        return
    if len(streams) > args.max_log_requests:
        raise UsageError(
            f"you are attempting to follow {len(streams)} log streams, but maximum allowed concurrency is "
            f"{args.max_log_requests}, use --max-log-requests to increase the limit"
        )
    failures: list[Exception] = []

    def follow(pod: Any, name: str) -> None:
        try:
            _print(Server(found_target), args, namespace, pod, name)
        except (ApiError, ClusterError) as err:
            failures.append(err)

    threads = [threading.Thread(target=follow, args=stream, daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        print(describe_error(failure) if isinstance(failure, ApiError) else f"error: {failure}", file=sys.stderr)
    if failures:
        raise Exit(1)


def _print(server: Server, args: Any, namespace: str, pod: Any, container: str) -> None:
    name = pod["metadata"]["name"]
    path = pods.POD.path(namespace, name, "log")
    prefix = f"[pod/{name}/{container}] ".encode() if args.prefix else b""
    out = sys.stdout.buffer
    rest = b""
    try:
        for piece in server.stream(path, _query(args, container), accept="*/*"):
            *lines, rest = (rest + piece).split(b"\n")
            out.write(b"".join(prefix + line + b"\n" for line in lines))
            out.flush()
    except ApiError as err:
        if not args.ignore_errors:
            raise
        print(describe_error(err), file=sys.stderr)
    if rest:
        out.write(prefix + rest)
        out.flush()
