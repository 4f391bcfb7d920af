"""The API server put together from its parts, started, and stopped in order."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from apiserver.admission.certificates import CertificateApproval, CertificateSigning, CertificateSubjectRestriction
from apiserver.admission.chain import Chain, Plugin
from apiserver.admission.devices import DeviceAccess
from apiserver.admission.escalation import Escalation
from apiserver.admission.ingress import DefaultIngressClass
from apiserver.admission.limitranger import LimitRanger
from apiserver.admission.namespaces import NamespaceLifecycle
from apiserver.admission.noderestriction import NodeRestriction
from apiserver.admission.nodes import PodTopologyLabels, TaintNodesByCondition
from apiserver.admission.pods import DefaultTolerationSeconds, RuntimeClass
from apiserver.admission.podsecurity.plugin import PodSecurity
from apiserver.admission.policyparams import PolicyParams
from apiserver.admission.priorities import Priority
from apiserver.admission.resize import PodResizeValidator
from apiserver.admission.resourcequota import ResourceQuota
from apiserver.admission.serviceaccounts import ServiceAccount
from apiserver.admission.storage import DefaultStorageClass, PersistentVolumeClaimResize, StorageObjectInUseProtection
from apiserver.allocators import ServiceAllocator
from apiserver.auth import bootstraptokens
from apiserver.auth.authenticator import Authenticator
from apiserver.auth.authorizer import AlwaysAllow, Authorizer, RoleAuthorizer
from apiserver.auth.defaults import node_rules
from apiserver.auth.serviceaccounts import ServiceAccountTokens
from apiserver.auth.tokens import fixed_user, load_token_file, token_digest
from apiserver.autoregister import Autoregister
from apiserver.availability import Availability
from apiserver.bootstrap import Bootstrap, Identity
from apiserver.codec import FieldSelectors, head_reader
from apiserver.compaction import compact_periodically
from apiserver.config import ADMISSION_PLUGINS, Config
from apiserver.custom.following import Definitions
from apiserver.custom.selectors import LiveSelectors
from apiserver.flowcontrol import FlowControl
from apiserver.pipeline import Parts, Pipeline
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.request import MASTERS_GROUP, User
from apiserver.rest.kubelet import KubeletClient, KubeletProxy
from apiserver.rest.limits import Limits
from apiserver.rest.metrics import Figures, Metrics, StoredObjects
from apiserver.rest.server import Doors, RestServer
from apiserver.rest.wellknown import Served, WellKnown
from apiserver.reviews import REVIEWS, Reviews
from apiserver.serviceaddresses import ServiceAddresses
from apiserver.servicekeeper import ServiceKeeper
from apiserver.state import State, decoded
from apiserver.store import open_store
from apiserver.store.base import Store
from apiserver.tokenrequests import TokenIssuer
from apiserver.watchcache import Entry, WatchCache
from kubarium.machinery import kubeconfig
from kubarium.machinery.accounttokens import load_signer, load_verifiers
from kubarium.machinery.errors import ConfigError, StoreUnavailable

log = logging.getLogger(__name__)

RUN = Path("/run/kubarium")
FOLDER_PREFIX = "kubarium-api-"
DNS_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers: where, the file of its administrator's kubeconfig ("" where none is made), its CA's."""

    url: str
    kubeconfig: str
    ca: str


async def serve(config: Config, beside: Callable[[Running], Awaitable[None]] | None = None) -> None:
    """Run until cancelled, or until `beside` ends, which begins when the server answers.

    Raises ConfigError for what cannot be started.
    """
    async with AsyncExitStack() as stack:
        sockets = open_sockets(config)
        for sock in sockets:
            stack.callback(sock.close)
        if config.standalone or not config.store:
            folder = stack.enter_context(own_folder(Path(tempfile.gettempdir())))
            config = complete(config, folder, sockets)
        try:
            store = open_store(config.store)
        except StoreUnavailable as err:
            raise ConfigError(f"--store {config.store}: {err}") from err
        stack.push_async_callback(store.close)
        await stack.enter_async_context(running(config, store, sockets))
        spare_the_collector()
        if beside is None:
            await asyncio.Event().wait()
        else:
            url = f"https://127.0.0.1:{sockets[0].getsockname()[1]}"
            await beside(Running(url, config.write_kubeconfig, config.client_ca_file))


def spare_the_collector() -> None:
    """Collections look no more at what has been made by now, which stays, and look less often: hardly anything here is
    part of a cycle, and each look at a full watch cache takes as long as many requests."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@contextmanager
def own_folder(base: Path) -> Iterator[Path]:
    """A folder that goes with this process; what killed ones left in `base` is removed. A lock shows who is alive."""
    for left in base.glob(FOLDER_PREFIX + "*"):
        if (lock := locked(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base))
        if (lock := locked(folder)) is not None and folder.exists():  # else taken for left over before it was locked
            break
        if lock is not None:
            os.close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder of ours; None where it is somebody's, or gone."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(fd).st_uid == os.geteuid():
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return None


# -- what is made when it is not given ---------------------------------------------------------------------------------


def complete(config: Config, folder: Path, sockets: list[socket.socket]) -> Config:
    """The settings of a server on its own: a store and certificates in a folder that goes with it.

    Nobody makes ServiceAccounts there, so pods are not asked for one unless that plugin is enabled by name.
    """
    found = config if config.store else replace(config, store=f"sqlite://{folder}/store.db")
    if not config.standalone:
        return found
    from kubarium.machinery import pki

    ca = pki.make_ca(folder)
    addresses = ["127.0.0.1", config.advertise_address, str(config.service_network[1])]
    pki.issue(ca, "kube-apiserver", (), DNS_NAMES, addresses, ("server",)).write(folder, "apiserver")
    private, public = pki.service_account_key(folder)
    file = config.write_kubeconfig or (str(folder / "kubeconfig") if config.token else "")
    if file:
        port = sockets[0].getsockname()[1]
        grpc = f"127.0.0.1:{config.grpc_port}" if config.grpc_port else ""
        client = kubeconfig.ClientConfig(f"https://127.0.0.1:{port}", ca.certificate, token=config.token, grpc=grpc)
        kubeconfig.write(file, client, user="admin")
    return replace(
        found,
        write_kubeconfig=file,
        tls_cert_file=str(folder / "apiserver.crt"),
        tls_private_key_file=str(folder / "apiserver.key"),
        client_ca_file=config.client_ca_file or str(folder / "ca.crt"),
        service_account_key_file=config.service_account_key_file or str(public),
        service_account_signing_key_file=config.service_account_signing_key_file or str(private),
        disabled_admission=config.disabled_admission | ({"ServiceAccount"} - config.enabled_admission),
    )


def open_sockets(config: Config) -> list[socket.socket]:
    """The inherited listening sockets, or one of our own. Raises ConfigError where the port is taken."""
    if config.listen_fds:
        return [inherited(number) for number in config.listen_fds]
    family = socket.AF_INET6 if ":" in config.bind_address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((config.bind_address, config.secure_port))
        sock.listen(1024)
    except OSError as err:
        sock.close()
        where = f"{config.bind_address}:{config.secure_port}"
        raise ConfigError(f"{where}: {err.strerror}; choose another port or address") from err
    sock.setblocking(False)
    return [sock]


def inherited(number: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
        listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as err:
        raise ConfigError(f"--listen-fd {number}: {err.strerror}; expected an inherited listening socket") from err
    if not listening:
        raise ConfigError(f"--listen-fd {number}: not a listening socket")
    sock.setblocking(False)
    return sock


def tls_context(config: Config) -> ssl.SSLContext:
    """Client certificates are asked for, not demanded. Raises ConfigError for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    name = "--tls-cert-file"
    try:
        context.load_cert_chain(config.tls_cert_file, config.tls_private_key_file)
        if config.client_ca_file:
            name = "--client-ca-file"
            context.load_verify_locations(config.client_ca_file)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as err:
        path = config.client_ca_file if name == "--client-ca-file" else config.tls_cert_file
        raise ConfigError(f"{name} {path}: {err}; expected PEM files that belong together") from err
    return context


# -- the parts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    """The parts that tests and the gRPC door look at."""

    config: Config
    registry: Registry
    cache: WatchCache
    pipeline: Pipeline
    authenticator: Authenticator
    tokens: ServiceAccountTokens | None
    services: ServiceKeeper
    limits: Limits
    metrics: Metrics
    rest: RestServer
    bootstrap: Bootstrap
    filled: asyncio.Event


@asynccontextmanager
async def running(config: Config, store: Store, sockets: list[socket.socket]) -> AsyncIterator[Server]:
    """A server that answers, until the block is left. The last to start is the first to stop."""
    tls = tls_context(config)
    server = assemble(config, store, sockets[0].getsockname()[1])
    async with asyncio.TaskGroup() as tasks:
        running_tasks = [tasks.create_task(server.cache.run(), name="watchcache")]
        try:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(server.rest.stop)
                await server.rest.start(sockets, tls)
                await server.cache.synced()
                definitions = Definitions(server.cache, server.registry, server.pipeline)
                definitions.learn()
                server.filled.set()
                if config.grpc_port:
                    await stack.enter_async_context(grpc_front(server))
                running_tasks += [
                    tasks.create_task(definitions.run(), name="definitions"),
                    tasks.create_task(server.bootstrap.run(), name="bootstrap"),
                    tasks.create_task(compact_periodically(store), name="compaction"),
                ]
                await server.bootstrap.done.wait()
                running_tasks += [
                    tasks.create_task(FlowControl(server.pipeline, server.registry).run(), name="flowcontrol"),
                    tasks.create_task(Autoregister(server.pipeline, server.registry).run(), name="apiservices"),
                    tasks.create_task(Availability(server.pipeline, server.registry).run(), name="availability"),
                    tasks.create_task(service_addresses(server).run(), name="addresses"),
                ]
                log.info("serving on %s", ", ".join(":".join(map(str, s.getsockname()[:2])) for s in sockets))
                yield server
        finally:
            for task in running_tasks:
                task.cancel()


def assemble(config: Config, store: Store, port: int) -> Server:
    from apiserver.registry import REGISTRY

    stored = Registry(replace(r, ttl_s=config.event_ttl_s) if r.ttl_s else r for r in REGISTRY)
    registry = Registry((*stored, *REVIEWS))
    head = head_reader(selectors_of(stored, registry))
    cache = WatchCache(store, head=head)
    state = State(store, cache, head)

    def core(plural: str) -> ResourceDef:
        found = registry.get("", "v1", plural)
        assert found is not None, plural
        return found

    tokens = service_account_tokens(config, state, core)
    services = ServiceKeeper(ServiceAllocator(config.service_network, config.node_ports), state, core("services").key())
    authorizer: Authorizer
    if config.authorization == ("AlwaysAllow",):
        authorizer = AlwaysAllow()
    else:
        authorizer = RoleAuthorizer(cache, node_rules(), lambda: bootstrap.done.is_set())  # noqa: PLW0108 (it comes later)
    escalation = [Escalation(state, authorizer)] if isinstance(authorizer, RoleAuthorizer) else []
    devices = DeviceAccess(state, core("namespaces"), authorizer)
    admission = Chain(
        [devices, PolicyParams(state, registry, authorizer), *plugins(config, state, registry, authorizer), *escalation]
    )
    issuer = TokenIssuer(state, tokens, core, admission)
    authenticator = Authenticator(fixed_tokens(config), tokens, bootstrap_tokens(state, core))
    reviews = Reviews(authenticator, authorizer)
    pipeline = Pipeline(Parts(state, admission, authorizer, services, issuer, reviews))
    metrics = Metrics()
    client_ca = Path(config.client_ca_file).read_text() if config.client_ca_file else ""
    identity = Identity(config.advertise_address, port, config.service_network, client_ca)
    bootstrap = Bootstrap(pipeline, registry, identity)
    served = Served(
        registry,
        f"{config.advertise_address}:{port}",
        metrics,
        {
            "store": lambda: cache.trouble is None,
            "cache": lambda: cache.has_synced,
            "bootstrap": bootstrap.done.is_set,
        },
        lambda: figures(registry, cache),
        tokens,
    )
    client = KubeletClient(
        config.kubelet_client_certificate, config.kubelet_client_key, config.kubelet_certificate_authority
    )
    filled = asyncio.Event()
    kubelets = KubeletProxy(state, client, core)
    doors = Doors(registry, pipeline, authenticator, authorizer, WellKnown(served), kubelets, filled)
    limits = Limits(metrics, read_only=config.max_requests, mutating=config.max_mutating_requests)
    rest = RestServer(doors, limits, metrics, request_timeout_s=config.request_timeout_s)
    return Server(
        config, registry, cache, pipeline, authenticator, tokens, services, limits, metrics, rest, bootstrap, filled
    )


def figures(registry: Registry, cache: WatchCache) -> Figures:
    """How many objects there are, one figure for all versions of a kind."""
    prefixes = {r.key(): r for r in registry if "list" in r.verbs}
    objects = (StoredObjects(r.group, r.plural, len(cache.list(prefix))) for prefix, r in prefixes.items())
    return Figures({"apiserver_storage_revision": float(cache.revision)}, tuple(sorted(objects)))


def selectors_of(built_in: Registry, registry: Registry) -> Callable[[str], FieldSelectors]:
    """Prefix of a resource's keys -> the field selectors of all resources kept there; they read the stored form."""
    known: dict[str, FieldSelectors] = {}
    for r in built_in:
        known[r.key()] = {**known.get(r.key(), {}), **r.field_selectors}

    def find(prefix: str) -> FieldSelectors:
        found = known.get(prefix)
        if found is None:
            found = known[prefix] = LiveSelectors(registry, prefix)
        return found

    return find


def plugins(config: Config, state: State, registry: Registry, authorizer: Authorizer) -> list[Plugin]:
    """The admission chain in Kubernetes' order, without what is disabled."""

    def resource(group: str, plural: str) -> ResourceDef:
        found = registry.get(group, "v1", plural)
        assert found is not None, plural
        return found

    nodes = resource("", "nodes")
    known: dict[str, Plugin] = {
        "NamespaceLifecycle": NamespaceLifecycle(state, resource("", "namespaces")),
        "LimitRanger": LimitRanger(state, registry),
        "ServiceAccount": ServiceAccount(state, resource("", "serviceaccounts")),
        "NodeRestriction": NodeRestriction(state, registry, authorizer),
        "TaintNodesByCondition": TaintNodesByCondition(),
        "PodSecurity": PodSecurity(state, registry),
        "Priority": Priority(state, registry),
        "DefaultTolerationSeconds": DefaultTolerationSeconds(
            config.not_ready_toleration_s, config.unreachable_toleration_s
        ),
        "DefaultStorageClass": DefaultStorageClass(state, registry),
        "StorageObjectInUseProtection": StorageObjectInUseProtection(),
        "PersistentVolumeClaimResize": PersistentVolumeClaimResize(state, registry),
        "RuntimeClass": RuntimeClass(state, resource("node.k8s.io", "runtimeclasses")),
        "CertificateApproval": CertificateApproval(authorizer),
        "CertificateSigning": CertificateSigning(authorizer),
        "CertificateSubjectRestriction": CertificateSubjectRestriction(),
        "DefaultIngressClass": DefaultIngressClass(state, registry),
        "PodTopologyLabels": PodTopologyLabels(state, nodes),
        "PodResizeValidator": PodResizeValidator(state, nodes),
        "ResourceQuota": ResourceQuota(state, registry),
    }
    return [known[name] for name in ADMISSION_PLUGINS if name in known and name not in config.disabled_admission]


def fixed_tokens(config: Config) -> dict[bytes, User]:
    tokens = load_token_file(config.token_auth_file) if config.token_auth_file else {}
    if config.token:
        tokens[token_digest(config.token)] = fixed_user("admin", "admin", MASTERS_GROUP)
    return tokens


def service_account_tokens(
    config: Config, state: State, core: Callable[[str], ResourceDef]
) -> ServiceAccountTokens | None:
    if not config.service_account_key_file and not config.service_account_signing_key_file:
        return None
    signing = config.service_account_signing_key_file
    signer = load_signer(signing) if signing else None
    verifiers = load_verifiers(config.service_account_key_file or signing)

    def lookup(plural: str, namespace: str, name: str) -> Entry | None:
        return state.peek(core(plural), namespace, name)

    return ServiceAccountTokens(config.service_account_issuer, config.api_audiences, verifiers, signer, lookup)


def bootstrap_tokens(state: State, core: Callable[[str], ResourceDef]) -> Callable[[str, float], User | None]:
    """Whose tokens of nodes that join are."""

    def secret_of(name: str) -> Object | None:
        entry = state.peek(core("secrets"), bootstraptokens.NAMESPACE, name)
        return decoded(entry) if entry else None

    return bootstraptokens.authenticator(secret_of)


def service_addresses(server: Server) -> ServiceAddresses:
    pipeline = server.pipeline
    return ServiceAddresses(pipeline.state, server.registry, server.services, pipeline.writer.now)


def grpc_front(server: Server) -> AbstractAsyncContextManager[int]:
    """The gRPC front end on the same pipeline; grpc is imported only where it is wanted."""
    from apiserver.grpcdoor import Behind, grpc_door

    config = server.config
    behind = Behind(
        server.registry,
        server.pipeline,
        server.authenticator,
        server.limits,
        server.metrics,
        config.request_timeout_s,
    )
    run_dir = RUN / config.cluster_name  # of a local cluster, and removed with it
    return grpc_door(
        behind, config.bind_address, config.grpc_port, tls_context(config), run_dir if run_dir.is_dir() else None
    )
