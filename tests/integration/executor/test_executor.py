"""What the executor does to a cluster, on the simulator and on a real kube-apiserver."""

from __future__ import annotations

import asyncio
from typing import Any

from shared.adapters.memory.event_log import MemoryLog
from shared.events.topics import RESULTS, commands_topic
from shared.events.v1.commands import CommandIssued
from shared.model.identities import FIELD_MANAGER, GENERATION_ANNOTATION, Resource
from shared.model.quantities import quantity_milli
from shared.ports.cluster_api import Object, Selection
from shared.ports.event_log import NewRecord
from tests.integration.executor.conftest import CLUSTER, Bed
from tests.integration.executor.support import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACES,
    NODES,
    PODS,
    Running,
    find,
    until,
)
from tests.unit.executor.builders import command, config_map, deployment, job, pod_group, withdrawal


def run(bed: Bed, generation: int, *objects: dict[str, Any], **more: Any) -> CommandIssued:
    return command(generation, *objects, subject=bed.subject, cluster=CLUSTER, **more)


async def image(bed: Bed, name: str = "web-main") -> str:
    found = await bed.api.get(DEPLOYMENTS, bed.namespace, name)
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


async def pods(bed: Bed) -> dict[str, Object]:
    found = await bed.api.list(PODS, Selection(namespace=bed.namespace))
    return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}


async def test_apply_change_and_withdraw(bed: Bed) -> None:
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 1, deployment(replicas=2), config_map(key="1")))
        await executor.until_reported(bed.subject, "applied", 1)
        found = await bed.api.get(DEPLOYMENTS, bed.namespace, "web-main")
        assert FIELD_MANAGER in {entry["manager"] for entry in found["metadata"]["managedFields"]}

        executor.issue(run(bed, 2, deployment(replicas=2, image="nginx:2")))
        await executor.until_reported(bed.subject, "applied", 2)
        assert await image(bed) == "nginx:2"

        async def pruned() -> bool:
            return await find(bed.api, CONFIG_MAPS, bed.namespace, "settings") is None

        # In the foreground: the cluster's garbage collector ends it, when it comes to it.
        await until(pruned, "pruned")

        executor.issue(withdrawal(3, subject=bed.subject))
        await executor.until_reported(bed.subject, "withdrawn", 3)
        assert await find(bed.api, DEPLOYMENTS, bed.namespace, "web-main") is None
        assert await find(bed.api, NAMESPACES, "", bed.namespace) is not None, "a namespace is never deleted"

        executor.put(bed.subject, None)
        await asyncio.sleep(0.3)
        outcomes = [report.outcome for report in executor.reports(bed.subject)]
        assert outcomes == ["applied", "applied", "withdrawn"]


async def test_running_pods_do_not_make_it_apply_again(bed: Bed) -> None:
    """Controllers write status, annotations and children; none of that is drift."""
    async with Running(bed.source, CLUSTER, executor_resync_s=600.0) as executor:
        executor.issue(run(bed, 1, deployment(replicas=2)))
        await executor.until_reported(bed.subject, "applied", 1)

        async def ready() -> bool:
            found = await bed.api.get(DEPLOYMENTS, bed.namespace, "web-main")
            return bool(found.get("status", {}).get("readyReplicas") == 2)

        await until(ready, "two ready replicas")
        found = await bed.api.get(DEPLOYMENTS, bed.namespace, "web-main")
        applied = [e for e in found["metadata"]["managedFields"] if e["manager"] == FIELD_MANAGER]
        await asyncio.sleep(1)
        after = await bed.api.get(DEPLOYMENTS, bed.namespace, "web-main")
        assert [e for e in after["metadata"]["managedFields"] if e["manager"] == FIELD_MANAGER] == applied
        assert len(executor.reports(bed.subject)) == 1


async def test_drift_is_repaired(bed: Bed) -> None:
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 1, deployment(replicas=1), config_map(key="right")))
        await executor.until_reported(bed.subject, "applied", 1)

        await bed.api.merge_patch(DEPLOYMENTS, bed.namespace, "web-main", {"spec": {"replicas": 5}})

        async def replicas() -> bool:
            return bool((await bed.api.get(DEPLOYMENTS, bed.namespace, "web-main"))["spec"]["replicas"] == 1)

        await until(replicas, "replicas put right")
        await bed.api.merge_patch(CONFIG_MAPS, bed.namespace, "settings", {"data": {"key": "wrong"}})

        async def data() -> bool:
            return bool((await bed.api.get(CONFIG_MAPS, bed.namespace, "settings"))["data"]["key"] == "right")

        await until(data, "data put right")
        uid = (await bed.api.get(DEPLOYMENTS, bed.namespace, "web-main"))["metadata"]["uid"]
        await bed.api.delete(DEPLOYMENTS, bed.namespace, "web-main")

        async def back() -> bool:
            found = await find(bed.api, DEPLOYMENTS, bed.namespace, "web-main")
            return found is not None and found["metadata"]["uid"] != uid

        await until(back, "deployment created again")


async def test_a_label_that_was_removed_comes_back(bed: Bed) -> None:
    """For a watch by label the object is gone, though it is not: the same uid must be welcome again."""
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 1, config_map(key="1")))
        await executor.until_reported(bed.subject, "applied", 1)
        gone = {"metadata": {"labels": {"flotilla.dev/applied-by": None}}}
        for _ in range(2):
            await bed.api.merge_patch(CONFIG_MAPS, bed.namespace, "settings", gone)

            async def labelled() -> bool:
                found = await bed.api.get(CONFIG_MAPS, bed.namespace, "settings")
                return "flotilla.dev/applied-by" in found["metadata"]["labels"]

            await until(labelled, "the label is back")
        executor.issue(withdrawal(2, subject=bed.subject))
        await executor.until_reported(bed.subject, "withdrawn")


async def test_a_stale_generation_is_refused_across_restarts(bed: Bed) -> None:
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 5, deployment(image="new")))
        await executor.until_reported(bed.subject, "applied", 5)
    # Another process, and a topic whose last word is old.
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 4, deployment(image="old")))
        report = await executor.until_reported(bed.subject, "refused", 4)
        assert report.applied_generation == 5
        assert await image(bed) == "new"
        executor.issue(run(bed, 5, deployment(image="new")))
        await executor.until_reported(bed.subject, "applied", 5)


async def test_a_repeat_raises_the_fence(bed: Bed) -> None:
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 1, deployment()), run(bed, 8, deployment()))
        await executor.until_reported(bed.subject, "applied", 8)
        found = await bed.api.get(DEPLOYMENTS, bed.namespace, "web-main")
        assert found["metadata"]["annotations"][GENERATION_ANNOTATION] == "8"


async def test_what_the_server_refuses_is_reported_in_its_words(bed: Bed) -> None:
    async with Running(bed.source, CLUSTER) as executor:
        bad = deployment("bad", replicas=-1)
        executor.issue(run(bed, 1, bad, deployment("good")))
        report = await executor.until_reported(bed.subject, "failed", 1)
        assert [(f.name, f.reason) for f in report.failures] == [("bad", "Invalid")]
        assert report.objects == 1
        assert await find(bed.api, DEPLOYMENTS, bed.namespace, "good") is not None
        executor.issue(run(bed, 2, deployment("good")))
        await executor.until_reported(bed.subject, "applied", 2)


async def test_a_malformed_record_is_reported_and_the_next_one_obeyed(bed: Bed) -> None:
    async with Running(bed.source, CLUSTER) as executor:
        for value in (b"", b"\xff\xfe", b"{", b"[]", b'{"generation": 3}', b'{"epoch": 1, "generation": "x"}'):
            executor.put(bed.subject, value)
        executor.log.append(executor_record(executor, b"\xff", b"{}"))
        report = await executor.until_reported(bed.subject, "failed")
        assert report.reason == "Malformed"
        executor.issue(run(bed, 4, config_map(key="1")))
        await executor.until_reported(bed.subject, "applied", 4)


def executor_record(executor: Running, key: bytes, value: bytes) -> Any:
    return NewRecord(commands_topic(executor.cluster).name, key, value)


async def test_custom_resources_are_pruned_and_withdrawn_after_a_restart(bed: Bed) -> None:
    crds = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
    name = f"gadgets.{bed.namespace}.example.com"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"}
    spec = {"group": f"{bed.namespace}.example.com", "scope": "Cluster", "names": names, "versions": [version]}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": spec,
    }
    api_version = f"{spec['group']}/v1"
    gadget = {"apiVersion": api_version, "kind": "Gadget", "metadata": {"name": "g1"}, "spec": {"size": "1000m"}}
    gadgets = Resource(str(spec["group"]), "v1", "gadgets")
    async with Running(bed.source, CLUSTER) as executor:
        # The definition comes after the first try, as it does for people.
        executor.issue(run(bed, 1, gadget, config_map(key="1")))
        report = await executor.until_reported(bed.subject, "failed", 1)
        assert report.reason == "KindNotServed"
        await bed.api.create(crds, "", definition)
        await executor.until_reported(bed.subject, "applied", 1, within=60)
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 2, config_map(key="1")))
        await executor.until_reported(bed.subject, "applied", 2)

        async def pruned() -> bool:
            return await find(bed.api, gadgets, "", "g1") is None

        await until(pruned, "the gadget of an earlier process is pruned")
    await bed.api.delete(crds, "", name)


async def test_jobs_run_once(bed: Bed) -> None:
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 1, job()))
        await executor.until_reported(bed.subject, "applied", 1)
        executor.issue(withdrawal(2, subject=bed.subject))
        await executor.until_reported(bed.subject, "withdrawn", 2)

        async def no_pods() -> bool:
            return not await pods(bed)

        await until(no_pods, "background deletion takes the pods along")


async def test_a_job_that_removes_itself_is_not_run_again(bed: Bed) -> None:
    jobs = Resource("batch", "v1", "jobs")
    issued = run(bed, 1, job(ttl_s=1))
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(issued)
        await executor.until_reported(bed.subject, "applied", 1)

        async def gone() -> bool:
            return await find(bed.api, jobs, bed.namespace, "once") is None

        await until(gone, "the job ended and its time to live is over", within=60)
        await asyncio.sleep(0.5)
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(issued)
        await executor.until_reported(bed.subject, "applied", 1)
        assert await find(bed.api, jobs, bed.namespace, "once") is None


async def test_pods_are_bound_replaced_and_moved(bed: Bed) -> None:
    nodes = {"web-main-0": bed.nodes[0], "web-main-1": bed.nodes[1], "web-main-2": bed.nodes[1]}
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 1, pods=[pod_group(nodes)]))
        await executor.until_reported(bed.subject, "applied", 1)
        assert {name: pod["spec"]["nodeName"] for name, pod in (await pods(bed)).items()} == nodes

        executor.issue(run(bed, 2, pods=[pod_group(nodes, image="nginx:2")]))
        await executor.until_reported(bed.subject, "applied", 2, within=60)
        assert {pod["spec"]["containers"][0]["image"] for pod in (await pods(bed)).values()} == {"nginx:2"}

        nodes["web-main-0"] = bed.nodes[2]
        executor.issue(run(bed, 3, pods=[pod_group(nodes, image="nginx:2")]))
        await executor.until_reported(bed.subject, "applied", 3, within=60)
        assert {name: pod["spec"]["nodeName"] for name, pod in (await pods(bed)).items()} == nodes

        uid = (await pods(bed))["web-main-1"]["metadata"]["uid"]
        await bed.api.delete(PODS, bed.namespace, "web-main-1")

        async def again() -> bool:
            found = (await pods(bed)).get("web-main-1")
            return found is not None and found["metadata"]["uid"] != uid and "nodeName" in found["spec"]

        await until(again, "a pod that somebody deleted is made again and bound")
        executor.issue(withdrawal(4, subject=bed.subject))
        await executor.until_reported(bed.subject, "withdrawn", 4)


async def test_a_pod_is_bound_when_there_is_room(bed: Bed) -> None:
    node = bed.nodes[0]
    allocatable = (await bed.api.get(NODES, "", node))["status"]["allocatable"]
    most = {"cpu": f"{quantity_milli(allocatable['cpu']) * 3 // 5}m"}
    other = f"workload/{bed.namespace}/next"
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(run(bed, 1, pods=[pod_group({"web-main-0": node}, requests=most)]))
        await executor.until_reported(bed.subject, "applied", 1)
        executor.issue(command(2, subject=other, cluster=CLUSTER, pods=[pod_group({"next-0": node}, requests=most)]))

        async def is_made() -> bool:
            return "next-0" in await pods(bed)

        await until(is_made, "the second pod is there")
        await asyncio.sleep(0.5)
        assert "nodeName" not in (await pods(bed))["next-0"]["spec"]
        assert executor.reports(other) == []

        executor.issue(withdrawal(3, subject=bed.subject))
        await executor.until_reported(other, "applied", 2)
        assert {name: pod["spec"]["nodeName"] for name, pod in (await pods(bed)).items()} == {"next-0": node}
        executor.issue(withdrawal(4, subject=other))
        await executor.until_reported(other, "withdrawn", 4)


async def test_a_cordoned_node_gets_no_pods(bed: Bed) -> None:
    node = bed.nodes[2]
    await bed.api.merge_patch(NODES, "", node, {"spec": {"unschedulable": True}})
    try:
        async with Running(bed.source, CLUSTER) as executor:
            executor.issue(run(bed, 1, pods=[pod_group({"web-main-0": node, "web-main-1": "no-such-node"})]))
            report = await executor.until_reported(bed.subject, "failed", 1)
            assert {(f.name, f.reason) for f in report.failures} == {
                ("web-main-0", "NodeUnschedulable"),
                ("web-main-1", "NodeGone"),
            }
            assert await pods(bed) == {}
    finally:
        await bed.api.merge_patch(NODES, "", node, {"spec": {"unschedulable": None}})


async def test_after_a_crash_at_any_point_nothing_is_made_twice(bed: Bed) -> None:
    nodes = {f"web-main-{number}": bed.nodes[number % 3] for number in range(6)}
    issued = run(bed, 1, deployment(), config_map(key="1"), pods=[pod_group(nodes)])
    uids: dict[str, str] = {}
    for delay in (0.05, 0.08, 0.12, 0.2):
        executor = Running(bed.source, CLUSTER)
        await executor.__aenter__()
        executor.issue(issued)
        await asyncio.sleep(delay)
        await executor.crash()
        for name, pod in (await pods(bed)).items():
            if name in nodes:
                assert uids.setdefault(name, pod["metadata"]["uid"]) == pod["metadata"]["uid"], "made twice"
    async with Running(bed.source, CLUSTER) as executor:
        executor.issue(issued)
        await executor.until_reported(bed.subject, "applied", 1)
        found = {name: pod for name, pod in (await pods(bed)).items() if name in nodes}
        assert {name: pod["spec"]["nodeName"] for name, pod in found.items()} == nodes
        assert all(uids.get(name, uid) == uid for name, uid in ((n, p["metadata"]["uid"]) for n, p in found.items()))


async def test_the_topic_may_come_later_than_the_executor(bed: Bed) -> None:
    log = MemoryLog()
    await log.ensure_topics([RESULTS])
    executor = Running(bed.source, CLUSTER, log)
    task = asyncio.create_task(executor.service.run(executor._stop))

    async def says_so() -> bool:
        return "which does not exist" in executor.service.readiness().reason

    await until(says_so, "readiness names the missing topic", state=executor.service.readiness)
    await log.ensure_topics([commands_topic(CLUSTER)])
    executor.issue(run(bed, 1, config_map(key="1")))
    await executor.until_reported(bed.subject, "applied", 1)
    assert executor.service.readiness().ready
    executor._stop.set()
    await asyncio.wait_for(task, 30)


async def test_bound_pods_stay_as_they_are_over_a_restart(bed: Bed) -> None:
    """The next process applies them once more; what admission and the kubelet added is no reason to replace them."""
    group = pod_group({"web-main-0": bed.nodes[0], "web-main-1": bed.nodes[1]})
    tolerations = [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    manifest = {**group.manifest, "spec": {**group.manifest["spec"], "tolerations": tolerations}}
    issued = run(bed, 1, pods=[group.model_copy(update={"manifest": manifest})])
    uids: set[tuple[str, str]] = set()
    for _ in range(2):
        async with Running(bed.source, CLUSTER) as executor:
            executor.issue(issued)
            report = await executor.until_reported(bed.subject, "applied", 1)
            assert report.objects == 2
            await asyncio.sleep(1)
            assert [r.outcome for r in executor.reports(bed.subject)] == ["applied"]
        found = {(name, pod["metadata"]["uid"]) for name, pod in (await pods(bed)).items()}
        assert uids in (set(), found)
        uids = found
