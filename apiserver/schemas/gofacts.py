"""What the definitions do not tell of the API's types, and the wire form shows: which zero values are written.

A field that is absent in the definitions' `required` is normally left out when it is empty. Two exceptions:
- POINTERS can tell "empty" from "not set": an explicit zero (`replicas: 0`) stays; required ones are null when not set.
- VALUES are always written, because they are structs (or times, quantities) held by value, or fields without omitempty.
NAMES are scalar types with a name of their own, for error texts. Keys are `group.version.Type` as in the definitions.
Source: the Kubernetes API reference, and kube-apiserver's own answers.
"""

from __future__ import annotations

_POINTERS = """
apps.v1.DeploymentSpec progressDeadlineSeconds replicas revisionHistoryLimit selector
apps.v1.DeploymentStatus collisionCount terminatingReplicas
apps.v1.ReplicaSetSpec replicas selector
apps.v1.ReplicaSetStatus terminatingReplicas
authentication.v1.TokenRequestSpec expirationSeconds
coordination.v1.LeaseSpec acquireTime holderIdentity leaseDurationSeconds leaseTransitions preferredHolder
    renewTime strategy
core.v1.AppArmorProfile localhostProfile
core.v1.AzureDiskVolumeSource cachingMode fsType kind readOnly
core.v1.CSIVolumeSource fsType readOnly
core.v1.ClusterTrustBundleProjection name optional signerName
core.v1.ClientIPConfig timeoutSeconds
core.v1.ConfigMap immutable
core.v1.ConfigMapEnvSource optional
core.v1.ConfigMapKeySelector optional
core.v1.ConfigMapProjection optional
core.v1.ConfigMapVolumeSource defaultMode optional
core.v1.Container restartPolicy
core.v1.ContainerStatus started stopSignal
core.v1.DownwardAPIVolumeFile mode
core.v1.DownwardAPIVolumeSource defaultMode
core.v1.EndpointAddress nodeName
core.v1.EndpointPort appProtocol
core.v1.EphemeralContainer restartPolicy
core.v1.FCVolumeSource lun
core.v1.FileKeySelector optional
core.v1.GRPCAction service
core.v1.HostPathVolumeSource type
core.v1.ISCSIVolumeSource initiatorName
core.v1.KeyToPath mode
core.v1.Lifecycle stopSignal
core.v1.LoadBalancerIngress ipMode
core.v1.NodeFeatures supplementalGroupsPolicy
core.v1.NodeRuntimeHandlerFeatures recursiveReadOnlyMounts userNamespaces
core.v1.NodeSwapStatus capacity
core.v1.PersistentVolumeClaimSpec storageClassName volumeAttributesClassName volumeMode
core.v1.PodCertificateProjection maxExpirationSeconds
core.v1.PodDNSConfigOption value
core.v1.PodResourceClaim resourceClaimName resourceClaimTemplateName
core.v1.PodResourceClaimStatus resourceClaimName
core.v1.PodSchedulingGroup podGroupName
core.v1.PodSecurityContext fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxChangePolicy
    supplementalGroupsPolicy
core.v1.PodSpec activeDeadlineSeconds automountServiceAccountToken enableServiceLinks hostUsers hostnameOverride
    preemptionPolicy priority runtimeClassName setHostnameAsFQDN shareProcessNamespace
    terminationGracePeriodSeconds
core.v1.PortStatus error
core.v1.Probe terminationGracePeriodSeconds
core.v1.ProjectedVolumeSource defaultMode
core.v1.ScaleIOVolumeSource secretRef
core.v1.SeccompProfile localhostProfile
core.v1.Secret immutable
core.v1.SecretEnvSource optional
core.v1.SecretKeySelector optional
core.v1.SecretProjection optional
core.v1.SecretVolumeSource defaultMode optional
core.v1.SecurityContext allowPrivilegeEscalation privileged procMount readOnlyRootFilesystem runAsGroup
    runAsNonRoot runAsUser
core.v1.ServiceAccount automountServiceAccountToken
core.v1.ServiceAccountTokenProjection expirationSeconds
core.v1.ServicePort appProtocol
core.v1.ServiceSpec allocateLoadBalancerNodePorts internalTrafficPolicy ipFamilyPolicy loadBalancerClass
    trafficDistribution
core.v1.Toleration tolerationSeconds
core.v1.TopologySpreadConstraint minDomains nodeAffinityPolicy nodeTaintsPolicy
core.v1.TypedLocalObjectReference apiGroup
core.v1.TypedObjectReference apiGroup namespace
core.v1.VolumeMount mountPropagation recursiveReadOnly
core.v1.VolumeMountStatus recursiveReadOnly
core.v1.WindowsSecurityContextOptions gmsaCredentialSpec gmsaCredentialSpecName hostProcess runAsUserName
discovery.v1.Endpoint hostname nodeName zone
discovery.v1.EndpointConditions ready serving terminating
discovery.v1.EndpointPort appProtocol name port protocol
meta.v1.DeleteOptions gracePeriodSeconds ignoreStoreReadErrorWithClusterBreakingPotential orphanDependents
    propagationPolicy
meta.v1.ObjectMeta deletionGracePeriodSeconds
meta.v1.OwnerReference blockOwnerDeletion controller
meta.v1.Preconditions resourceVersion uid
networking.v1.HTTPIngressPath pathType
networking.v1.IngressClassParametersReference apiGroup namespace scope
networking.v1.IngressPortStatus error
networking.v1.IngressSpec ingressClassName
scheduling.v1.PriorityClass preemptionPolicy
"""

_VALUES = """
apps.v1.Deployment metadata spec status
apps.v1.DeploymentCondition lastTransitionTime lastUpdateTime
apps.v1.DeploymentSpec strategy template
apps.v1.ReplicaSet metadata spec status
apps.v1.ReplicaSetCondition lastTransitionTime
apps.v1.ReplicaSetSpec template
authentication.v1.TokenRequest metadata spec status
authentication.v1.TokenRequestSpec audiences
authentication.v1.TokenRequestStatus expirationTimestamp token
autoscaling.v1.Scale metadata spec status
coordination.v1.Lease metadata spec
core.v1.Binding metadata target
core.v1.ConfigMap metadata
core.v1.Container resources
core.v1.ContainerStateRunning startedAt
core.v1.ContainerStateTerminated finishedAt startedAt
core.v1.ContainerStatus lastState state
core.v1.Endpoints metadata
core.v1.EphemeralContainer resources
core.v1.Event eventTime firstTimestamp involvedObject lastTimestamp metadata reportingComponent
    reportingInstance source
core.v1.EventSeries lastObservedTime
core.v1.Namespace metadata spec status
core.v1.NamespaceCondition lastTransitionTime
core.v1.Node metadata spec status
core.v1.NodeCondition lastHeartbeatTime lastTransitionTime
core.v1.NodeDaemonEndpoints kubeletEndpoint
core.v1.NodeStatus daemonEndpoints nodeInfo
core.v1.PersistentVolumeClaimSpec resources
core.v1.PersistentVolumeClaimTemplate metadata spec
core.v1.Pod metadata spec status
core.v1.PodCondition lastProbeTime lastTransitionTime
core.v1.PodTemplateSpec metadata spec
core.v1.ResourceFieldSelector divisor
core.v1.Secret metadata
core.v1.Service metadata spec status
core.v1.ServiceAccount metadata
core.v1.ServicePort targetPort
core.v1.ServiceStatus loadBalancer
discovery.v1.Endpoint conditions
discovery.v1.EndpointSlice metadata endpoints ports
events.v1.Event deprecatedFirstTimestamp deprecatedLastTimestamp deprecatedSource eventTime metadata regarding
networking.v1.Ingress metadata spec status
networking.v1.IngressClass metadata spec
networking.v1.IngressServiceBackend port
networking.v1.IngressStatus loadBalancer
node.v1.RuntimeClass metadata
policy.v1.Eviction metadata
scheduling.v1.PriorityClass metadata value
"""

_NAMES = """
core.v1.Container imagePullPolicy=v1.PullPolicy restartPolicy=v1.ContainerRestartPolicy
    terminationMessagePolicy=v1.TerminationMessagePolicy
core.v1.ContainerPort protocol=v1.Protocol
core.v1.EndpointPort protocol=v1.Protocol
core.v1.EmptyDirVolumeSource medium=v1.StorageMedium
core.v1.HTTPGetAction scheme=v1.URIScheme
core.v1.HostPathVolumeSource type=v1.HostPathType
core.v1.NamespaceStatus phase=v1.NamespacePhase
core.v1.PodSpec dnsPolicy=v1.DNSPolicy preemptionPolicy=v1.PreemptionPolicy restartPolicy=v1.RestartPolicy
core.v1.PodStatus phase=v1.PodPhase qosClass=v1.PodQOSClass
core.v1.Secret type=v1.SecretType
core.v1.ServicePort protocol=v1.Protocol
core.v1.ServiceSpec externalTrafficPolicy=v1.ServiceExternalTrafficPolicy
    internalTrafficPolicy=v1.ServiceInternalTrafficPolicy ipFamilyPolicy=v1.IPFamilyPolicy
    sessionAffinity=v1.ServiceAffinity type=v1.ServiceType
core.v1.Taint effect=v1.TaintEffect
core.v1.Toleration effect=v1.TaintEffect operator=v1.TolerationOperator
apps.v1.DeploymentStrategy type=v1.DeploymentStrategyType
discovery.v1.EndpointSlice addressType=v1.AddressType
meta.v1.ObjectMeta uid=types.UID
meta.v1.OwnerReference uid=types.UID
networking.v1.HTTPIngressPath pathType=v1.PathType
"""


def _table(text: str) -> dict[str, frozenset[str]]:
    lines = (line.split() for line in text.strip().replace("\n    ", " ").splitlines())
    return {first: frozenset(rest) for first, *rest in lines}


POINTERS = _table(_POINTERS)
VALUES = _table(_VALUES)
NAMES = {
    key: dict(pair.split("=", 1) for pair in pairs)
    for key, pairs in ((k, sorted(v)) for k, v in _table(_NAMES).items())
}
