"""A realistic stream of pod events, the same for the same seed, and a server that sends it as a kube-apiserver would.

The pods are those of a deployment on a busy cluster: owner reference, resources, environment, tolerations, four
conditions, container statuses, and the managed fields that kube-controller-manager and the kubelet leave: about 3.5 KB.
Every event is one line and one HTTP chunk, as the real server flushes each by itself. Run as a module the server
is a process of its own, so that it does not share the measured process's interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Iterator
from typing import Any

POOL = 400
# Events that the server hands to its socket at once: it must not be what the reader waits for.
PORTION = 128


def events(count: int, seed: int) -> Iterator[bytes]:
    """`count` lines of a watch, in order: pods appear, change a few times, and some are deleted."""
    rng = random.Random(seed)
    pool = [_template(rng) for _ in range(POOL)]
    alive: set[int] = set()
    for version in range(2, count + 2):
        number = rng.randrange(POOL)
        if number not in alive:
            kind = b"ADDED"
            alive.add(number)
        elif rng.random() < 0.1:
            kind = b"DELETED"
            alive.remove(number)
        else:
            kind = b"MODIFIED"
        body = pool[number].replace(b"@VERSION@", b"%d" % version, 1)
        yield b'{"type":"' + kind + b'","object":' + body + b"}\n"


def _hex(rng: random.Random, digits: int) -> str:
    return f"{rng.getrandbits(4 * digits):0{digits}x}"


def _uid(rng: random.Random) -> str:
    return "-".join(_hex(rng, n) for n in (8, 4, 4, 4, 12))


def _template(rng: random.Random) -> bytes:
    app = f"{rng.choice(('web', 'api', 'cart', 'search', 'billing'))}-{rng.randrange(60)}"
    replica_set = f"{app}-{_hex(rng, 10)}"
    name = f"{replica_set}-{_hex(rng, 5)}"
    node = f"pool-{rng.randrange(4)}-node-{rng.randrange(500)}"
    return json.dumps(_pod(rng, app, replica_set, name, node), separators=(",", ":")).encode()


def _pod(rng: random.Random, app: str, replica_set: str, name: str, node: str) -> dict[str, Any]:
    image = f"registry.example.com/shop/{app}:1.{rng.randrange(40)}.{rng.randrange(20)}"
    container = {
        "name": "main",
        "image": image,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "LEVEL", "value": "info"},
        ],
        "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "250m", "memory": "256Mi"}},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": replica_set,
        "uid": _uid(rng),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        "name": name,
        "generateName": f"{replica_set}-",
        "namespace": f"team-{rng.randrange(30)}",
        "uid": _uid(rng),
        "resourceVersion": "@VERSION@",
        "generation": 1,
        "creationTimestamp": "2026-01-15T10:00:00Z",
        "labels": {"app": app, "pod-template-hash": replica_set.rpartition("-")[2]},
        "annotations": {"prometheus.io/scrape": "true"},
        "ownerReferences": [owner],
        "managedFields": _managed(owner["uid"]),
    }
    spec = {
        "containers": [container],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "nodeName": node,
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "tolerations": [
            {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for key in ("not-ready", "unreachable")
        ],
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": _status(rng, image)}


def _status(rng: random.Random, image: str) -> dict[str, Any]:
    address = f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
    conditions = [
        {"type": kind, "observedGeneration": 1, "status": "True", "lastTransitionTime": "2026-01-15T10:00:04Z"}
        for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    return {
        "phase": "Running",
        "conditions": conditions,
        "hostIP": f"10.0.{rng.randrange(256)}.{rng.randrange(1, 255)}",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": "2026-01-15T10:00:01Z",
        "containerStatuses": [
            {
                "name": "main",
                "state": {"running": {"startedAt": "2026-01-15T10:00:03Z"}},
                "lastState": {},
                "ready": True,
                "restartCount": rng.randrange(3),
                "image": image,
                "imageID": f"registry.example.com/shop@sha256:{_hex(rng, 64)}",
                "containerID": f"containerd://{_hex(rng, 64)}",
                "started": True,
            }
        ],
        "qosClass": "Burstable",
    }


def _managed(owner: Any) -> list[dict[str, Any]]:
    def entry(manager: str, fields: dict[str, Any], subresource: str = "") -> dict[str, Any]:
        return {
            "manager": manager,
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-01-15T10:00:04Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
            **({"subresource": subresource} if subresource else {}),
        }

    def names(*parts: str) -> dict[str, Any]:
        return {f"f:{part}": {} for part in parts}

    container = names("image", "imagePullPolicy", "name", "terminationMessagePath", "terminationMessagePolicy")
    container["f:resources"] = {".": {}, "f:limits": {".": {}, "f:memory": {}}, "f:requests": names("cpu", "memory")}
    spec = {**names("dnsPolicy", "enableServiceLinks", "restartPolicy", "schedulerName", "securityContext")}
    spec["f:containers"] = {'k:{"name":"main"}': {".": {}, **container}}
    controller = {
        "f:metadata": {
            **names("generateName"),
            "f:labels": {".": {}, **names("app", "pod-template-hash")},
            "f:ownerReferences": {".": {}, f'k:{{"uid":"{owner}"}}': {}},
        },
        "f:spec": spec,
    }
    condition = {".": {}, **names("lastTransitionTime", "observedGeneration", "status", "type")}
    kubelet = {
        "f:status": {
            "f:conditions": {f'k:{{"type":"{kind}"}}': condition for kind in ("Initialized", "Ready")},
            **names("containerStatuses", "hostIP", "phase", "podIP", "startTime"),
        }
    }
    return [entry("kube-controller-manager", controller), entry("kubelet", kubelet, "status")]


# The server


class StreamServer:
    """Lists are empty, at version 1; a watch gets the first `N` events, `N` being the first part of the path."""

    def __init__(self, lines: list[bytes]) -> None:
        self._chunks = [b"%x\r\n%s\r\n" % (len(line), line) for line in lines]

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1].decode()
                await self._answer(target, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        if "watch=" not in target:
            body = b'{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}'
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        count = int(target.split("/", 2)[1])
        for start in range(0, count, PORTION):
            writer.write(b"".join(self._chunks[start : min(start + PORTION, count)]))
            await writer.drain()
        # A watch stays open: who has counted all events hangs up.
        await asyncio.sleep(3600)


async def _main(count: int, seed: int) -> None:
    lines = list(events(count, seed))
    server = await StreamServer(lines).serve()
    size = sum(map(len, lines)) / len(lines)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1], "bytes_per_event": round(size)}) + "\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.events, arguments.seed))
