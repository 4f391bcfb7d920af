"""All controllers on one set of informers, in one TaskGroup."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from kubarium.controllers.accounttokens import AccountTokens
from kubarium.controllers.bootstraptokens import TokenCleaner
from kubarium.controllers.budgets import DisruptionController
from kubarium.controllers.certificates import Approver, Cleaner, Signer
from kubarium.controllers.clusterroles import ClusterRoleAggregation
from kubarium.controllers.config import Config
from kubarium.controllers.controller import Context, Controller, Informers
from kubarium.controllers.cronjobs.controller import CronJobController
from kubarium.controllers.daemonsets.controller import DaemonSetController
from kubarium.controllers.deployment import DeploymentController
from kubarium.controllers.endpoints import EndpointsController
from kubarium.controllers.endpointslice import EndpointSliceController
from kubarium.controllers.garbagecollector import GarbageCollector
from kubarium.controllers.jobs.controller import JobController
from kubarium.controllers.kinds import Kinds
from kubarium.controllers.namespace import NamespaceController
from kubarium.controllers.nodeipam import NodeIpamController
from kubarium.controllers.nodelifecycle import NodeLifecycleController
from kubarium.controllers.podgc import PodGcController
from kubarium.controllers.replicaset import ReplicaSetController, ReplicationControllers
from kubarium.controllers.resourcequota import ResourceQuotaController
from kubarium.controllers.rootca import RootCaPublisher
from kubarium.controllers.serviceaccount import ServiceAccountController
from kubarium.controllers.statefulsets.controller import StatefulSetController
from kubarium.controllers.storageprotection import (
    ClaimProtectionController,
    ClassProtectionController,
    VolumeProtectionController,
)
from kubarium.controllers.tainteviction import TaintEvictionController
from kubarium.controllers.ttlafterfinished import TtlAfterFinishedController
from kubarium.machinery.client import Api
from kubarium.machinery.election import Election, lead
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.process import wait_synced

# The first to ask for a collection chooses how it is decoded, so who needs only metadata comes last.
CONTROLLERS: tuple[type[Controller[Any]], ...] = (
    NodeIpamController,
    NodeLifecycleController,
    TaintEvictionController,
    PodGcController,
    ReplicaSetController,
    ReplicationControllers,
    DeploymentController,
    EndpointSliceController,
    EndpointsController,
    ServiceAccountController,
    RootCaPublisher,
    AccountTokens,
    TokenCleaner,
    ClusterRoleAggregation,
    Approver,
    Signer,
    Cleaner,
    JobController,
    CronJobController,
    StatefulSetController,
    DaemonSetController,
    DisruptionController,
    ClaimProtectionController,
    VolumeProtectionController,
    ClassProtectionController,
    TtlAfterFinishedController,
    ResourceQuotaController,
    NamespaceController,
    GarbageCollector,
)


class Manager:
    """What runs in a controllers process."""

    def __init__(self, api: Api, config: Config) -> None:
        known = {kind.name for kind in CONTROLLERS}
        for name in config.controllers:
            if name.removeprefix("-") not in known | {"*"}:
                raise ConfigError(f"--controllers {name}: no such controller; there are {', '.join(sorted(known))}")
        self._api = api
        self._informers = Informers(api)
        self._kinds = Kinds(api, self._informers)
        context = Context(api, self._informers, config, kinds=self._kinds)
        self._controllers = [kind(context) for kind in CONTROLLERS if self._wanted(kind.name, config)]

    @staticmethod
    def _wanted(name: str, config: Config) -> bool:
        needed = {
            RootCaPublisher.name: config.root_ca_file,
            AccountTokens.name: config.service_account_private_key_file,
            Signer.name: config.cluster_signing_key_file,
        }
        if not needed.get(name, "any"):
            return False
        return config.enabled(name)

    @property
    def ready(self) -> Mapping[str, Callable[[], bool]]:
        kinds = self._kinds
        return {"informer-sync": lambda: self._informers.synced and (kinds.has_synced or not kinds.wanted)}

    async def run(self, *, leader_elect: bool = False) -> None:
        """Until cancelled. No controller plans anything before every cache is filled."""
        async with asyncio.TaskGroup() as group:
            informers = self._informers.all()
            for name, informer in informers.items():
                group.create_task(informer.run(), name=f"informer/{name}")
            await wait_synced(*informers.values())
            if self._kinds.wanted:  # who works on all kinds waits for them; the others begin
                group.create_task(self._kinds.run(), name="kinds")
            if leader_elect:
                identity = f"{socket.gethostname()}_{os.getpid()}"
                await lead(self._api, Election("kube-controller-manager", identity), self._work)
            else:
                await self._work()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            for controller in self._controllers:
                group.create_task(controller.run(), name=controller.name)
