"""How each kind is described."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubarium.cli.describe_pods import pod, pod_template
from kubarium.cli.describing import Describer, Lines, Obj, annotation_lines, head, mapping, moment
from kubarium.cli.http import Server
from kubarium.machinery.quantity import parse_quantity
from kubarium.machinery.times import age

REVISION = "deployment.kubernetes.io/revision"
WITHOUT_EVENTS = ("namespaces", "secrets", "events")


def service(server: Server, obj: Obj) -> Lines:
    meta, spec = obj["metadata"], obj["spec"]
    backends = _backends(server, meta["namespace"], meta["name"])
    lines = [
        *head(obj),
        "Selector:\t" + (",".join(f"{k}={v}" for k, v in sorted((spec.get("selector") or {}).items())) or "<none>"),
        f"Type:\t{spec.get('type', '')}",
        f"IP Family Policy:\t{spec.get('ipFamilyPolicy') or '<none>'}",
        f"IP Families:\t{','.join(spec.get('ipFamilies') or ['<none>'])}",
        f"IP:\t{spec.get('clusterIP', '')}",
        f"IPs:\t{','.join(spec.get('clusterIPs') or ['<none>'])}",
    ]
    if spec.get("externalIPs"):
        lines.append(f"External IPs:\t{','.join(spec['externalIPs'])}")
    if spec.get("externalName"):
        lines.append(f"External Name:\t{spec['externalName']}")
    ingress = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    if ingress:
        lines.append("LoadBalancer Ingress:\t" + ",".join(one.get("ip") or one.get("hostname", "") for one in ingress))
    for port in spec.get("ports") or ():
        name = port.get("name") or "<unset>"
        lines.append(f"Port:\t{name}\t{port['port']}/{port.get('protocol', 'TCP')}")
        lines.append(f"TargetPort:\t{port.get('targetPort', port['port'])}/{port.get('protocol', 'TCP')}")
        if port.get("nodePort"):
            lines.append(f"NodePort:\t{name}\t{port['nodePort']}/{port.get('protocol', 'TCP')}")
        lines.append(f"Endpoints:\t{backends.get(port.get('name', ''), '<none>')}")
    lines.append(f"Session Affinity:\t{spec.get('sessionAffinity', '')}")
    for title, field in (("External", "externalTrafficPolicy"), ("Internal", "internalTrafficPolicy")):
        if spec.get(field):
            lines.append(f"{title} Traffic Policy:\t{spec[field]}")
    return lines


def _backends(server: Server, namespace: str, name: str) -> dict[str, str]:
    """Ready endpoints by port name: the first three and how many more."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices = server.get(path, {"labelSelector": f"kubernetes.io/service-name={name}"}).get("items") or ()
    found: dict[str, list[str]] = {}
    for entry in slices:
        for port in entry.get("ports") or ():
            for endpoint in entry.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready", True) is not False:
                    found.setdefault(port.get("name") or "", []).append(f"{endpoint['addresses'][0]}:{port['port']}")
    return {
        port: ",".join(texts[:3]) + (f" + {len(texts) - 3} more..." if len(texts) > 3 else "")
        for port, texts in found.items()
    }


def _port_table(ports: Any, indent: str) -> Lines:
    if not ports:
        return [f"{indent}Ports:\t<unset>"]
    lines = [f"{indent}Ports:", f"{indent}  Name\tPort\tProtocol", f"{indent}  ----\t----\t--------"]
    return lines + [
        f"{indent}  {port.get('name') or '<unset>'}\t{port.get('port', '<unset>')}\t{port.get('protocol', 'TCP')}"
        for port in ports
    ]


def endpoints(_: Server, obj: Obj) -> Lines:
    lines = [*head(obj), "Subsets:"]
    for subset in obj.get("subsets") or ():
        for title, field in (("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")):
            lines.append(f"  {title}:\t" + (",".join(one["ip"] for one in subset.get(field) or ()) or "<none>"))
        lines += [*_port_table(subset.get("ports"), "  "), ""]
    return lines


def endpointslice(_: Server, obj: Obj) -> Lines:
    lines = [*head(obj), f"AddressType:\t{obj.get('addressType', '')}", *_port_table(obj.get("ports"), "")]
    if not obj.get("endpoints"):
        return [*lines, "Endpoints: <none>"]
    lines.append("Endpoints:")
    for one in obj["endpoints"]:
        ready = (one.get("conditions") or {}).get("ready")
        lines += [
            f"  - Addresses:\t{','.join(one.get('addresses') or ())}",
            "    Conditions:",
            f"      Ready:\t{'<unset>' if ready is None else str(ready).lower()}",
            f"    Hostname:\t{one.get('hostname') or '<unset>'}",
        ]
        if ref := one.get("targetRef"):
            lines.append(f"    TargetRef:\t{ref.get('kind')}/{ref.get('name')}")
        lines += [f"    NodeName:\t{one.get('nodeName') or '<unset>'}", f"    Zone:\t{one.get('zone') or '<unset>'}"]
    return lines


def deployment(server: Server, obj: Obj) -> Lines:
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    strategy = spec.get("strategy") or {}
    counts = (
        f"{spec.get('replicas', 1)} desired | {status.get('updatedReplicas', 0)} updated | "
        f"{status.get('replicas', 0)} total | {status.get('availableReplicas', 0)} available | "
        f"{status.get('unavailableReplicas', 0)} unavailable"
    )
    lines = [
        f"Name:\t{meta['name']}",
        f"Namespace:\t{meta['namespace']}",
        f"CreationTimestamp:\t{moment(meta.get('creationTimestamp'))}",
        *mapping("Labels", meta.get("labels"), "="),
        *annotation_lines(meta),
        f"Selector:\t{_selector(spec.get('selector'))}",
        f"Replicas:\t{counts}",
        f"StrategyType:\t{strategy.get('type', '')}",
        f"MinReadySeconds:\t{spec.get('minReadySeconds', 0)}",
    ]
    if rolling := strategy.get("rollingUpdate"):
        limits = f"{rolling.get('maxUnavailable')} max unavailable, {rolling.get('maxSurge')} max surge"
        lines.append(f"RollingUpdateStrategy:\t{limits}")
    lines += pod_template(spec["template"])
    if status.get("conditions"):
        lines += ["Conditions:", "  Type\tStatus\tReason", "  ----\t------\t------"]
        lines += [f"  {c['type']} \t{c['status']}\t{c.get('reason', '')}" for c in status["conditions"]]
    return lines + _replicasets_of(server, obj)


def _replicasets_of(server: Server, obj: Obj) -> Lines:
    """The ReplicaSet of the current revision, and those before it."""
    meta = obj["metadata"]
    found = server.get(f"/apis/apps/v1/namespaces/{meta['namespace']}/replicasets").get("items") or ()
    owned = [one for one in found if _is_owned(one, meta["uid"])]
    if not owned:
        return []
    revision = (meta.get("annotations") or {}).get(REVISION)
    current = [one for one in owned if (one["metadata"].get("annotations") or {}).get(REVISION) == revision]
    before = [one for one in owned if one not in current]
    return [f"OldReplicaSets:\t{_created(before)}", f"NewReplicaSet:\t{_created(current)}"]


def _is_owned(obj: Obj, uid: str) -> bool:
    return any(one.get("uid") == uid for one in obj["metadata"].get("ownerReferences") or ())


def _created(replicasets: list[Obj]) -> str:
    texts = [
        f"{one['metadata']['name']} ({(one.get('status') or {}).get('replicas', 0)}/{one['spec'].get('replicas', 0)} "
        "replicas created)"
        for one in replicasets
    ]
    return ", ".join(texts) or "<none>"


def replicaset(server: Server, obj: Obj) -> Lines:
    spec, status = obj["spec"], obj.get("status") or {}
    owner = next((o for o in obj["metadata"].get("ownerReferences") or () if o.get("controller")), None)
    lines = head(obj, f"Selector:\t{_selector(spec.get('selector'))}")
    if owner:
        lines.append(f"Controlled By:\t{owner['kind']}/{owner['name']}")
    lines.append(f"Replicas:\t{status.get('replicas', 0)} current / {spec.get('replicas', 1)} desired")
    lines.append(f"Pods Status:\t{_phases(server, obj)}")
    return lines + pod_template(spec["template"])


def _phases(server: Server, obj: Obj) -> str:
    meta = obj["metadata"]
    selector = ",".join(f"{k}={v}" for k, v in ((obj["spec"].get("selector") or {}).get("matchLabels") or {}).items())
    found = server.get(f"/api/v1/namespaces/{meta['namespace']}/pods", {"labelSelector": selector}).get("items") or ()
    phases = [(one.get("status") or {}).get("phase") for one in found if _is_owned(one, meta["uid"])]
    shown = {"Running": "Running", "Pending": "Waiting", "Succeeded": "Succeeded", "Failed": "Failed"}
    return " / ".join(f"{phases.count(phase)} {title}" for phase, title in shown.items())


def _selector(selector: Mapping[str, Any] | None) -> str:
    terms = [f"{key}={value}" for key, value in sorted(((selector or {}).get("matchLabels") or {}).items())]
    for one in (selector or {}).get("matchExpressions") or ():
        values = f" ({','.join(one.get('values') or ())})" if one.get("values") else ""
        terms.append(f"{one['key']} {one['operator'].lower()}{values}")
    return ",".join(terms) or "<none>"


def node(server: Server, obj: Obj) -> Lines:
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    prefix = "node-role.kubernetes.io/"
    roles = sorted(key.removeprefix(prefix) for key in meta.get("labels") or {} if key.startswith(prefix))
    taints = [
        f"{t['key']}={t['value']}:{t['effect']}" if t.get("value") else f"{t['key']}:{t['effect']}"
        for t in spec.get("taints") or ()
    ] or ["<none>"]
    lines = [
        f"Name:\t{meta['name']}",
        f"Roles:\t{','.join(roles) or '<none>'}",
        *mapping("Labels", meta.get("labels"), "="),
        *annotation_lines(meta),
        f"CreationTimestamp:\t{moment(meta.get('creationTimestamp'))}",
        f"Taints:\t{taints[0]}",
        *(f"\t{taint}" for taint in taints[1:]),
        f"Unschedulable:\t{str(spec.get('unschedulable', False)).lower()}",
        *_lease(server, meta["name"]),
    ]
    if status.get("conditions"):
        fields = ("type", "status", "lastHeartbeatTime", "lastTransitionTime", "reason", "message")
        titles = [field[0].upper() + field[1:] for field in fields]
        lines += ["Conditions:", "  " + "\t".join(titles), "  " + "\t".join("-" * len(title) for title in titles)]
        lines += [
            f"  {c['type']} \t{c['status']} \t{moment(c.get('lastHeartbeatTime'))} \t"
            f"{moment(c.get('lastTransitionTime'))} \t{c.get('reason', '')} \t{c.get('message', '')}"
            for c in status["conditions"]
        ]
    lines += ["Addresses:", *(f"  {a['type']}:\t{a['address']}" for a in status.get("addresses") or ())]
    for field in ("capacity", "allocatable"):
        lines += [f"{field.capitalize()}:", *(f"  {k}:\t{v}" for k, v in sorted((status.get(field) or {}).items()))]
    return lines + _system(status.get("nodeInfo") or {}, spec) + _pods_on(server, meta["name"], status)


def _lease(server: Server, name: str) -> Lines:
    from kubarium.machinery.errors import ApiError

    try:
        spec = server.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}")["spec"]
    except ApiError:
        return ["Lease:\tFailed to get lease"]
    return [
        "Lease:",
        f"  HolderIdentity:\t{spec.get('holderIdentity') or '<unset>'}",
        f"  AcquireTime:\t{moment(spec.get('acquireTime'))}",
        f"  RenewTime:\t{moment(spec.get('renewTime'))}",
    ]


def _system(info: Mapping[str, str], spec: Mapping[str, Any]) -> Lines:
    fields = {
        "Machine ID": "machineID",
        "System UUID": "systemUUID",
        "Boot ID": "bootID",
        "Kernel Version": "kernelVersion",
        "OS Image": "osImage",
        "Operating System": "operatingSystem",
        "Architecture": "architecture",
        "Container Runtime Version": "containerRuntimeVersion",
        "Kubelet Version": "kubeletVersion",
    }
    lines = ["System Info:", *(f"  {title}:\t{info.get(field, '')}" for title, field in fields.items())]
    if spec.get("podCIDR"):
        lines.append(f"PodCIDR:\t{spec['podCIDR']}")
    if spec.get("podCIDRs"):
        lines.append(f"PodCIDRs:\t{','.join(spec['podCIDRs'])}")
    if spec.get("providerID"):
        lines.append(f"ProviderID:\t{spec['providerID']}")
    return lines


RESOURCES = ("cpu", "memory", "ephemeral-storage")


def _pods_on(server: Server, name: str, status: Mapping[str, Any]) -> Lines:
    import time

    selector = f"spec.nodeName={name},status.phase!=Succeeded,status.phase!=Failed"
    found = server.get("/api/v1/pods", {"fieldSelector": selector}).get("items") or []
    lines = [
        f"Non-terminated Pods:\t({len(found)} in total)",
        "  Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge",
        "  ---------\t----\t\t------------\t----------\t---------------\t-------------\t---",
    ]
    allocatable = status.get("allocatable") or status.get("capacity") or {}
    sums = {(resource, which): 0.0 for resource in RESOURCES for which in ("requests", "limits")}
    for one in found:
        asked = {key: _asked(one, *key) for key in sums}
        for key, amount in asked.items():
            sums[key] += amount
        cells = [
            _share(resource, asked[resource, which], allocatable)
            for resource in ("cpu", "memory")
            for which in ("requests", "limits")
        ]
        meta = one["metadata"]
        since = age(meta.get("creationTimestamp", ""), time.time())
        lines.append(f"  {meta['namespace']}\t{meta['name']}\t\t" + "\t".join([*cells, since]))
    lines += [
        "Allocated resources:",
        "  (Total limits may be over 100 percent, i.e., overcommitted.)",
        "  Resource\tRequests\tLimits",
        "  --------\t--------\t------",
    ]
    return lines + [
        f"  {resource}\t{_share(resource, sums[resource, 'requests'], allocatable)}\t"
        f"{_share(resource, sums[resource, 'limits'], allocatable)}"
        for resource in RESOURCES
    ]


def _asked(pod: Obj, resource: str, which: str) -> float:
    """What a pod asks for: the sum of its containers, or its largest init container."""

    def of(container: Obj) -> float:
        return float(parse_quantity(((container.get("resources") or {}).get(which) or {}).get(resource, "0")))

    spec = pod["spec"]
    return max([sum(of(c) for c in spec.get("containers") or ()), *(of(c) for c in spec.get("initContainers") or ())])


def _share(resource: str, amount: float, allocatable: Mapping[str, str]) -> str:
    total = float(parse_quantity(allocatable.get(resource, "0")))
    percent = int(amount / total * 100) if total else 0
    return f"{_amount(resource, amount)} ({percent}%)"


def _amount(resource: str, amount: float) -> str:
    if resource == "cpu":
        return f"{round(amount * 1000)}m" if amount % 1 else f"{int(amount)}"
    for suffix, size in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if amount and amount % size == 0:
            return f"{int(amount // size)}{suffix}"
    return f"{int(amount)}"


def configmap(_: Server, obj: Obj) -> Lines:
    lines = [*head(obj), "", "Data", "===="]
    for key, value in sorted((obj.get("data") or {}).items()):
        lines += [f"{key}:", "----", *value.split("\n"), ""]
    lines += ["", "BinaryData", "===="]
    for key, value in sorted((obj.get("binaryData") or {}).items()):
        lines += [f"{key}: {_decoded_size(value)} bytes"]
    return [*lines, ""]


def secret(_: Server, obj: Obj) -> Lines:
    lines = [*head(obj), "", f"Type:\t{obj.get('type', '')}", "", "Data", "===="]
    return lines + [f"{key}:\t{_decoded_size(value)} bytes" for key, value in sorted((obj.get("data") or {}).items())]


def _decoded_size(value: str) -> int:
    import base64

    return len(base64.b64decode(value))


def serviceaccount(_: Server, obj: Obj) -> Lines:
    secrets = [one["name"] for one in obj.get("imagePullSecrets") or ()] or ["<none>"]
    return [*head(obj), f"Image pull secrets:\t{secrets[0]}", *(f"\t{name}" for name in secrets[1:])]


def namespace(_: Server, obj: Obj) -> Lines:
    return [*head(obj, namespaced=False), f"Status:\t{(obj.get('status') or {}).get('phase', '')}"]


def ingress(server: Server, obj: Obj) -> Lines:
    meta, spec = obj["metadata"], obj.get("spec") or {}
    given = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    lines = [
        f"Name:\t{meta['name']}",
        *mapping("Labels", meta.get("labels"), "="),
        f"Namespace:\t{meta['namespace']}",
        "Address:\t" + ",".join(one.get("ip") or one.get("hostname", "") for one in given),
        f"Ingress Class:\t{spec.get('ingressClassName') or '<none>'}",
        f"Default backend:\t{_backend(server, meta['namespace'], spec.get('defaultBackend')) or '<default>'}",
    ]
    if spec.get("tls"):
        lines.append("TLS:")
        lines += [f"  {one.get('secretName', '')} terminates {','.join(one.get('hosts') or ())}" for one in spec["tls"]]
    lines += ["Rules:", "  Host\tPath\tBackends", "  ----\t----\t--------"]
    for rule in spec.get("rules") or ():
        lines.append(f"  {rule.get('host') or '*'}\t")
        lines += [
            f"    \t{path.get('path', '')} \t{_backend(server, meta['namespace'], path['backend'])}"
            for path in (rule.get("http") or {}).get("paths") or ()
        ]
    return lines + annotation_lines(meta)


def _backend(server: Server, namespace_: str, backend: Mapping[str, Any] | None) -> str:
    if not backend:
        return ""
    if wanted := backend.get("service"):
        port = wanted.get("port") or {}
        found = _backends(server, namespace_, wanted["name"])
        return f"{wanted['name']}:{port.get('name') or port.get('number')} ({', '.join(found.values()) or '<none>'})"
    resource = backend.get("resource") or {}
    return f"APIGroup: {resource.get('apiGroup')}, Kind: {resource.get('kind')}, Name: {resource.get('name')}"


DESCRIBERS: dict[str, Describer] = {
    "pods": pod,
    "services": service,
    "deployments": deployment,
    "endpoints": endpoints,
    "endpointslices": endpointslice,
    "replicasets": replicaset,
    "nodes": node,
    "configmaps": configmap,
    "secrets": secret,
    "serviceaccounts": serviceaccount,
    "namespaces": namespace,
    "ingresses": ingress,
}
