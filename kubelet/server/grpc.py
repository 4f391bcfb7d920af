"""The gRPC service of protos/kubarium/v1/kubelet.proto, with mutual TLS and the same permission as REST."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from kubarium.machinery.errors import ApiError, BadRequest, ConfigError, ContainerError, NotFound
from kubarium.machinery.pb import kubelet_pb2 as pb
from kubarium.machinery.pb import kubelet_pb2_grpc as pb_grpc
from kubelet.config import Config
from kubelet.plan import every_container, latest
from kubelet.pods import Pods
from kubelet.runtimes.base import PodRecord, State
from kubelet.server.access import AUTHENTICATED, Access, Caller
from kubelet.server.logs import find_container, parse_options

STATES = {State.CREATED: "waiting", State.RUNNING: "running", State.EXITED: "terminated"}


async def serve(config: Config, pods: Pods, access: Access) -> None:
    """Until cancelled. Raises ConfigError where the port is taken."""
    server = grpc.aio.server(maximum_concurrent_rpcs=100)
    pb_grpc.add_KubeletServicer_to_server(KubeletService(config, pods, access), server)
    pair = (config.tls_key_file.read_bytes(), config.tls_cert_file.read_bytes())
    authority = config.client_ca_file.read_bytes()
    credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=True)
    try:
        server.add_secure_port(f"{config.address}:{config.grpc_port}", credentials)
    except RuntimeError as err:
        raise ConfigError(f"--grpc-port {config.grpc_port}: cannot listen on {config.address}: {err}") from err
    await server.start()
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(grace=0.5)


class KubeletService(pb_grpc.KubeletServicer):
    """What the node runs, and the logs of it."""

    def __init__(self, config: Config, pods: Pods, access: Access) -> None:
        self._config, self._pods, self._access = config, pods, access

    async def Status(self, request: Any, context: Any) -> pb.KubeletStatusReply:  # noqa: N802
        await _authorize(context, self._access)
        runtime = self._pods.runtimes[0]
        lines = []
        for pod in self._pods.all():
            found = self._pods.find(pod.metadata.namespace, pod.metadata.name)
            record = found[2] if found else None
            lines.append(
                pb.PodStatusLine(
                    namespace=pod.metadata.namespace,
                    name=pod.metadata.name,
                    uid=pod.metadata.uid,
                    phase=pod.status.phase,
                    pod_ip=pod.status.pod_ip,
                    containers=[_container(record, c.name) for c in every_container(pod)],
                )
            )
        return pb.KubeletStatusReply(
            node_name=self._config.node_name, runtime=runtime.name, runtime_version=runtime.version, pods=lines
        )

    async def Logs(self, request: Any, context: Any) -> AsyncIterator[pb.LogChunk]:  # noqa: N802
        await _authorize(context, self._access)
        query = {
            "follow": str(request.follow),
            "timestamps": str(request.timestamps),
            "previous": str(request.previous),
            "tailLines": str(request.tail_lines) if request.tail_lines >= 0 else "",
            "sinceSeconds": str(request.since_seconds or ""),
            "limitBytes": str(request.limit_bytes or ""),
        }
        try:
            options, before = parse_options(query)
            found = find_container(self._pods, request.namespace, request.pod, request.container, before=before)
            async with aclosing(found.runtime.logs(found.container.id, options)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield pb.LogChunk(data=piece)
        except (ApiError, ContainerError) as err:
            await context.abort(_code(err), str(err))


def _container(record: PodRecord | None, name: str) -> pb.ContainerLine:
    found = latest(record, name)
    if found is None:
        return pb.ContainerLine(name=name, state="waiting")
    return pb.ContainerLine(
        name=name, container_id=found.id, state=STATES[found.state], restart_count=found.restart_count
    )


def _code(err: Exception) -> grpc.StatusCode:
    if isinstance(err, NotFound):
        return grpc.StatusCode.NOT_FOUND
    return grpc.StatusCode.FAILED_PRECONDITION if isinstance(err, BadRequest) else grpc.StatusCode.INTERNAL


async def _authorize(context: Any, access: Access) -> None:
    """The TLS handshake has checked the certificate; here whom it names. Reading is `get` on nodes/proxy."""
    caller, pems = None, context.auth_context().get("x509_pem_cert", ())
    if pems:
        subject = x509.load_pem_x509_certificate(pems[0]).subject
        names = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        groups = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        caller = Caller(names[0] if names else "", (*groups, AUTHENTICATED))
    refusal = await access.refusal("GET", "/", caller, "")
    if refusal is not None:
        code = grpc.StatusCode.UNAUTHENTICATED if refusal.code == 401 else grpc.StatusCode.PERMISSION_DENIED
        await context.abort(code, refusal.text.strip())
