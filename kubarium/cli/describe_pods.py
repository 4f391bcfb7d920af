"""How pods and pod templates are described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubarium.cli.describing import Lines, Obj, annotation_lines, mapping, moment
from kubarium.cli.http import Server

VOLUMES = {
    "emptyDir": ("EmptyDir", "a temporary directory that shares a pod's lifetime"),
    "hostPath": ("HostPath", "bare host directory volume"),
    "configMap": ("ConfigMap", "a volume populated by a ConfigMap"),
    "secret": ("Secret", "a volume populated by a Secret"),
    "projected": ("Projected", "a volume that contains injected data from multiple sources"),
    "downwardAPI": ("DownwardAPI", "a volume populated by information about the pod"),
}


def pod(_: Server, obj: Obj) -> Lines:
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    where = f"{spec['nodeName']}/{status.get('hostIP', '')}" if spec.get("nodeName") else "<none>"
    lines = [
        f"Name:\t{meta['name']}",
        f"Namespace:\t{meta['namespace']}",
        f"Priority:\t{spec.get('priority', 0)}",
    ]
    for title, value in (
        ("Priority Class Name", spec.get("priorityClassName")),
        ("Runtime Class Name", spec.get("runtimeClassName")),
        ("Service Account", spec.get("serviceAccountName")),
    ):
        if value:
            lines.append(f"{title}:\t{value}")
    lines.append(f"Node:\t{where}")
    if status.get("startTime"):
        lines.append(f"Start Time:\t{moment(status['startTime'])}")
    lines += [*mapping("Labels", meta.get("labels"), "="), *annotation_lines(meta), *_phase(meta, status)]
    lines += [f"IP:\t{status.get('podIP', '')}", *_ips(status)]
    owner = next((one for one in meta.get("ownerReferences") or () if one.get("controller")), None)
    if owner:
        lines.append(f"Controlled By:\t{owner['kind']}/{owner['name']}")
    lines += _containers("Init Containers", spec.get("initContainers"), status.get("initContainerStatuses"))
    lines += _containers("Containers", spec.get("containers"), status.get("containerStatuses"), required=True)
    if status.get("conditions"):
        lines += ["Conditions:", "  Type\tStatus"]
        lines += [f"  {one['type']} \t{one['status']} " for one in status["conditions"]]
    lines += [*_volumes(spec.get("volumes")), f"QoS Class:\t{status.get('qosClass', '')}"]
    return lines + _placement(spec)


def _phase(meta: Obj, status: Obj) -> Lines:
    if meta.get("deletionTimestamp"):
        import time

        from kubarium.machinery.times import human_duration, parse_timestamp

        left = time.time() - (parse_timestamp(meta["deletionTimestamp"]) or 0)
        lines = [
            f"Status:\tTerminating (lasts {human_duration(max(left, 0))})",
            f"Termination Grace Period:\t{meta.get('deletionGracePeriodSeconds', 0)}s",
        ]
    else:
        lines = [f"Status:\t{status.get('phase', '')}"]
    return lines + [f"{name.capitalize()}:\t{status[name]}" for name in ("reason", "message") if status.get(name)]


def _ips(status: Obj) -> Lines:
    ips = [one["ip"] for one in status.get("podIPs") or ()]
    return ["IPs:", *(f"  IP:\t{ip}" for ip in ips)] if ips else ["IPs:\t<none>"]


def pod_template(template: Obj) -> Lines:
    meta, spec = template.get("metadata") or {}, template["spec"]
    lines = ["Pod Template:", *mapping("Labels", meta.get("labels"), "=", "  ")]
    if meta.get("annotations"):
        lines += [f"  {line}" for line in annotation_lines(meta)]
    if spec.get("serviceAccountName"):
        lines.append(f"  Service Account:\t{spec['serviceAccountName']}")
    for title, field in (("Init Containers", "initContainers"), ("Containers", "containers")):
        lines += _containers(title, spec.get(field), None, indent="  ", step=" ")
    lines += _volumes(spec.get("volumes"), indent="  ", step=" ")
    if spec.get("priorityClassName"):
        lines.append(f"  Priority Class Name:\t{spec['priorityClassName']}")
    return lines + [f"  {line}" for line in _placement(spec)]


def _containers(
    title: str,
    containers: Sequence[Obj] | None,
    statuses: Sequence[Obj] | None,
    *,
    indent: str = "",
    step: str = "  ",
    required: bool = False,
) -> Lines:
    if not containers:
        return [f"{indent}{title}:\t<none>"] if required else []
    by_name = {status["name"]: status for status in statuses or ()}
    lines = [f"{indent}{title}:"]
    for container in containers:
        lines.append(f"{indent}{step}{container['name']}:")
        lines += [f"    {line}" for line in _container(container, by_name.get(container["name"]))]
    return lines


def _container(container: Obj, status: Obj | None) -> Lines:
    lines = [f"Container ID:\t{status.get('containerID', '')}"] if status else []
    lines.append(f"Image:\t{container.get('image', '')}")
    if status:
        lines.append(f"Image ID:\t{status.get('imageID', '')}")
    lines += _ports(container.get("ports") or ())
    for title, field in (("Command", "command"), ("Args", "args")):
        if container.get(field):
            lines += [f"{title}:", *(f"  {part}" for word in container[field] for part in word.split("\n"))]
    if status:
        lines += _states(status)
    for field in ("limits", "requests"):
        amounts = (container.get("resources") or {}).get(field) or {}
        if amounts:
            lines += [f"{field.capitalize()}:", *(f"  {name}:\t{amounts[name]}" for name in sorted(amounts))]
    for title, field in (("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")):
        if container.get(field):
            lines.append(f"{title}:\t{_probe(container[field])}")
    return lines + _environment(container) + _mounts(container.get("volumeMounts") or ())


def _ports(ports: Sequence[Obj]) -> Lines:
    def text(field: str) -> str:
        return ", ".join(
            f"{port.get(field, 0)}/{port.get('protocol', 'TCP')}" + (f" ({port['name']})" if port.get("name") else "")
            for port in ports
        )

    many = "s" if len(ports) > 1 else ""
    if not ports:
        return ["Port:\t<none>", "Host Port:\t<none>"]
    return [f"Port{many}:\t{text('containerPort')}", f"Host Port{many}:\t{text('hostPort')}"]


def _states(status: Obj) -> Lines:
    lines = _state("State", status.get("state") or {})
    if (status.get("lastState") or {}).get("terminated"):
        lines += _state("Last State", status["lastState"])
    ready = "True" if status.get("ready") else "False"
    return [*lines, f"Ready:\t{ready}", f"Restart Count:\t{status.get('restartCount', 0)}"]


def _state(title: str, state: Mapping[str, Any]) -> Lines:
    if (running := state.get("running")) is not None:
        return [f"{title}:\tRunning", f"  Started:\t{moment(running.get('startedAt'))}"]
    if (ended := state.get("terminated")) is not None:
        lines = [f"{title}:\tTerminated"]
        lines += [f"  {key.capitalize()}:\t{ended[key]}" for key in ("reason", "message") if ended.get(key)]
        lines.append(f"  Exit Code:\t{ended.get('exitCode', 0)}")
        if ended.get("signal"):
            lines.append(f"  Signal:\t{ended['signal']}")
        return [
            *lines,
            f"  Started:\t{moment(ended.get('startedAt'))}",
            f"  Finished:\t{moment(ended.get('finishedAt'))}",
        ]
    waiting = state.get("waiting") or {}
    return [f"{title}:\tWaiting", *([f"  Reason:\t{waiting['reason']}"] if waiting.get("reason") else [])]


def _probe(probe: Obj) -> str:
    numbers = (
        f"delay={probe.get('initialDelaySeconds', 0)}s timeout={probe.get('timeoutSeconds', 1)}s "
        f"period={probe.get('periodSeconds', 10)}s successThreshold={probe.get('successThreshold', 1)} "
        f"failureThreshold={probe.get('failureThreshold', 3)}"
    )
    if (command := probe.get("exec")) is not None:
        return f"exec [{' '.join(command.get('command') or ())}] {numbers}"
    if (http := probe.get("httpGet")) is not None:
        scheme = http.get("scheme", "HTTP").lower()
        return f"http-get {scheme}://{http.get('host', '')}:{http['port']}{http.get('path', '')} {numbers}"
    if (tcp := probe.get("tcpSocket")) is not None:
        return f"tcp-socket {tcp.get('host', '')}:{tcp['port']} {numbers}"
    if (grpc := probe.get("grpc")) is not None:
        return f"grpc <pod>:{grpc['port']} {grpc.get('service') or ''} {numbers}"
    return f"unknown {numbers}"


def _environment(container: Obj) -> Lines:
    lines: Lines = []
    if container.get("envFrom"):
        lines.append("Environment Variables from:")
        for source in container["envFrom"]:
            field, title = ("configMapRef", "ConfigMap") if source.get("configMapRef") else ("secretRef", "Secret")
            ref = source.get(field) or {}
            prefix = f" with prefix '{source['prefix']}'" if source.get("prefix") else ""
            lines.append(f"  {ref.get('name', '')}\t{title}{prefix}\tOptional: {_bool(ref.get('optional'))}")
    if not container.get("env"):
        return [*lines, "Environment:\t<none>"]
    lines.append("Environment:")
    for variable in container["env"]:
        lines += _variable(variable)
    return lines


def _variable(variable: Obj) -> Lines:
    name, source = variable["name"], variable.get("valueFrom") or {}
    if not source:
        parts = variable.get("value", "").split("\n")
        return [f"  {name}:\t{parts[0]}", *(f"  \t{part}" for part in parts[1:])]
    if ref := source.get("fieldRef"):
        return [f"  {name}:\t (v1:{ref['fieldPath']})"]
    if ref := source.get("resourceFieldRef"):
        return [f"  {name}:\t (limits or requests: {ref['resource']})"]
    if ref := source.get("secretKeyRef"):
        where = f"<set to the key '{ref['key']}' in secret '{ref.get('name', '')}'>"
    else:
        ref = source.get("configMapKeyRef") or {}
        where = f"<set to the key '{ref.get('key', '')}' of config map '{ref.get('name', '')}'>"
    return [f"  {name}:\t{where}\tOptional: {_bool(ref.get('optional'))}"]


def _mounts(mounts: Sequence[Obj]) -> Lines:
    if not mounts:
        return ["Mounts:\t<none>"]
    lines = ["Mounts:"]
    for mount in sorted(mounts, key=lambda one: str(one["mountPath"])):
        flags = ["ro" if mount.get("readOnly") else "rw"]
        if mount.get("subPath"):
            flags.append(f'path="{mount["subPath"]}"')
        lines.append(f"  {mount['mountPath']} from {mount['name']} ({','.join(flags)})")
    return lines


def _volumes(volumes: Sequence[Obj] | None, *, indent: str = "", step: str = "  ") -> Lines:
    if not volumes:
        return [f"{indent}Volumes:\t<none>"]
    lines = [f"{indent}Volumes:"]
    for volume in volumes:
        lines.append(f"{indent}{step}{volume['name']}:")
        lines += [f"    {line}" for line in _volume(volume)]
    return lines


def _volume(volume: Obj) -> Lines:
    field = next((name for name in volume if name != "name"), "emptyDir")
    source = volume.get(field) or {}
    title, meaning = VOLUMES.get(field, (field, "not described"))
    lines = [f"Type:\t{title} ({meaning})"]
    if field == "emptyDir":
        lines += [f"Medium:\t{source.get('medium', '')}", f"SizeLimit:\t{source.get('sizeLimit') or '<unset>'}"]
    elif field == "hostPath":
        lines += [f"Path:\t{source.get('path', '')}", f"HostPathType:\t{source.get('type', '')}"]
    elif field == "configMap":
        lines += [f"Name:\t{source.get('name', '')}", f"Optional:\t{_bool(source.get('optional'))}"]
    elif field == "secret":
        lines += [f"SecretName:\t{source.get('secretName', '')}", f"Optional:\t{_bool(source.get('optional'))}"]
    elif field == "projected":
        lines += [line for one in source.get("sources") or () for line in _projection(one)]
    elif field == "downwardAPI":
        lines += ["Items:", *_downward(source)]
    return lines


def _projection(source: Obj) -> Lines:
    if (token := source.get("serviceAccountToken")) is not None:
        return [f"TokenExpirationSeconds:\t{token.get('expirationSeconds', 3600)}"]
    if (ref := source.get("configMap")) is not None:
        return [f"ConfigMapName:\t{ref.get('name', '')}", f"Optional:\t{_bool(ref.get('optional'))}"]
    if (ref := source.get("secret")) is not None:
        return [f"SecretName:\t{ref.get('name', '')}", f"Optional:\t{_bool(ref.get('optional'))}"]
    return ["DownwardAPI:\ttrue"] if source.get("downwardAPI") is not None else []


def _downward(source: Obj) -> Lines:
    items = [item for item in source.get("items") or () if "fieldRef" in item]
    return [f"  {item['fieldRef']['fieldPath']} -> {item['path']}" for item in items]


def _placement(spec: Obj) -> Lines:
    return [
        *mapping("Node-Selectors", spec.get("nodeSelector"), "="),
        *_below("Tolerations", [_toleration(one) for one in spec.get("tolerations") or ()]),
    ]


def _below(title: str, texts: Sequence[str]) -> Lines:
    texts = sorted(texts) or ["<none>"]
    return [f"{title}:\t{texts[0]}", *(f"\t{text}" for text in texts[1:])]


def _toleration(one: Obj) -> str:
    text = str(one.get("key", ""))
    if one.get("value"):
        text += f"={one['value']}"
    if one.get("effect"):
        text += f":{one['effect']}"
    if one.get("operator") == "Exists":
        text += f"{' ' if text else ''}op=Exists"
    if one.get("tolerationSeconds") is not None:
        text += f" for {one['tolerationSeconds']}s"
    return text


def _bool(value: Any) -> str:
    return str(bool(value)).lower()
