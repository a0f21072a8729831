"""What the client library's models do not say: how lists merge, which maps are atomic, quantities, enums.

Sources: the `listType`, `listMapKey`, `mapType`, `patchStrategy` and `patchMergeKey` markers of k8s.io/api.
A list that is not named here is atomic, as in Kubernetes.
"""

from __future__ import annotations

LIST_MAPS: dict[str, tuple[str, ...]] = {
    "V1ObjectMeta.ownerReferences": ("uid",),
    "V1PodSpec.containers": ("name",),
    "V1PodSpec.initContainers": ("name",),
    "V1PodSpec.ephemeralContainers": ("name",),
    "V1PodSpec.volumes": ("name",),
    "V1PodSpec.imagePullSecrets": ("name",),
    "V1PodSpec.hostAliases": ("ip",),
    "V1PodSpec.topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "V1PodSpec.schedulingGates": ("name",),
    "V1PodSpec.resourceClaims": ("name",),
    "V1PodStatus.conditions": ("type",),
    "V1PodStatus.podIPs": ("ip",),
    "V1PodStatus.resourceClaimStatuses": ("name",),
    "V1ResourceRequirements.claims": ("name",),
    "V1NodeStatus.conditions": ("type",),
    "V1NodeStatus.addresses": ("type",),
    "V1NamespaceStatus.conditions": ("type",),
    "V1ServiceSpec.ports": ("port", "protocol"),
    "V1ServiceStatus.conditions": ("type",),
    "V1ServiceAccount.secrets": ("name",),
    "V1PersistentVolumeClaimStatus.conditions": ("type",),
    "V1ReplicationControllerStatus.conditions": ("type",),
    "V1DeploymentStatus.conditions": ("type",),
    "V1ReplicaSetStatus.conditions": ("type",),
    "V1StatefulSetStatus.conditions": ("type",),
    "V1DaemonSetStatus.conditions": ("type",),
    "V1PodDisruptionBudgetStatus.conditions": ("type",),
    "V2HorizontalPodAutoscalerStatus.conditions": ("type",),
    "V1CustomResourceDefinitionStatus.conditions": ("type",),
    "V1APIServiceStatus.conditions": ("type",),
    "V1CSINodeSpec.drivers": ("name",),
    "V1ValidatingWebhookConfiguration.webhooks": ("name",),
    "V1MutatingWebhookConfiguration.webhooks": ("name",),
    "V1ValidatingWebhook.matchConditions": ("name",),
    "V1MutatingWebhook.matchConditions": ("name",),
    **{
        f"V1{container}.{name}": keys
        for container in ("Container", "EphemeralContainer")
        for name, keys in {
            "env": ("name",),
            "ports": ("containerPort", "protocol"),
            "volumeMounts": ("mountPath",),
            "volumeDevices": ("devicePath",),
        }.items()
    },
}
"""Lists whose elements are known by keys; the first key is the merge key of strategic merge."""

MERGE_KEYS: dict[str, str] = {
    "V1JobStatus.conditions": "type",
    "V1PodStatus.hostIPs": "ip",
    "V1ServiceAccount.imagePullSecrets": "name",
}
"""Lists that strategic merge knows by a key although apply owns them as a whole."""

LIST_SETS = frozenset({"V1ObjectMeta.finalizers", "V1NodeSpec.podCIDRs"})


ATOMIC_TYPES = frozenset(
    {
        "V1ConfigMapKeySelector",
        "V1LabelSelector",
        "V1LocalObjectReference",
        "V1NodeSelector",
        "V1NodeSelectorTerm",
        "V1ObjectFieldSelector",
        "V1ObjectReference",
        "V1OwnerReference",
        "V1ResourceFieldSelector",
        "V1RoleRef",
        "V1SecretKeySelector",
        "V1SecretReference",
        "V1TopologySelectorTerm",
        "V1TypedLocalObjectReference",
    }
)
ATOMIC_FIELDS = frozenset({"V1PodSpec.nodeSelector", "V1ServiceSpec.selector"})

QUANTITIES = frozenset(
    {
        "V1ResourceRequirements.limits",
        "V1ResourceRequirements.requests",
        "V1VolumeResourceRequirements.limits",
        "V1VolumeResourceRequirements.requests",
        "V1NodeStatus.capacity",
        "V1NodeStatus.allocatable",
        "V1ResourceQuotaSpec.hard",
        "V1ResourceQuotaStatus.hard",
        "V1ResourceQuotaStatus.used",
        "V1PersistentVolumeSpec.capacity",
        "V1PersistentVolumeClaimStatus.capacity",
        "V1PersistentVolumeClaimStatus.allocatedResources",
        "V1ContainerStatus.allocatedResources",
        "V1PodSpec.overhead",
        "V1Overhead.podFixed",
        "V1LimitRangeItem.default",
        "V1LimitRangeItem.defaultRequest",
        "V1LimitRangeItem.max",
        "V1LimitRangeItem.min",
        "V1LimitRangeItem.maxLimitRequestRatio",
        "V1EmptyDirVolumeSource.sizeLimit",
        "V1ResourceFieldSelector.divisor",
        "V2MetricTarget.averageValue",
        "V2MetricTarget.value",
        "V2MetricValueStatus.averageValue",
        "V2MetricValueStatus.value",
    }
)

INT_OR_STRING = frozenset({"maxSurge", "maxUnavailable", "minAvailable", "port", "targetPort"})
"""Fields of type `any` in the models that are an integer or a string in Kubernetes."""

ENUMS: dict[str, tuple[str, ...]] = {
    "V1Container.imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "V1ContainerPort.protocol": ("SCTP", "TCP", "UDP"),
    "V1ServicePort.protocol": ("SCTP", "TCP", "UDP"),
    "V1PodSpec.restartPolicy": ("Always", "OnFailure", "Never"),
    "V1PodSpec.dnsPolicy": ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
    "V1ServiceSpec.type": ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
    "V1ServiceSpec.sessionAffinity": ("ClientIP", "None"),
    "V1DeploymentStrategy.type": ("Recreate", "RollingUpdate"),
    "V1StatefulSetUpdateStrategy.type": ("RollingUpdate", "OnDelete"),
    "V1DaemonSetUpdateStrategy.type": ("RollingUpdate", "OnDelete"),
    "V1StatefulSetSpec.podManagementPolicy": ("OrderedReady", "Parallel"),
    "V1JobSpec.completionMode": ("Indexed", "NonIndexed"),
    "V1CronJobSpec.concurrencyPolicy": ("Allow", "Forbid", "Replace"),
    "V1Taint.effect": ("NoSchedule", "PreferNoSchedule", "NoExecute"),
    "V1LabelSelectorRequirement.operator": ("In", "NotIn", "Exists", "DoesNotExist"),
    "V1NodeSelectorRequirement.operator": ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"),
    "V1TopologySpreadConstraint.whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
    "V1CustomResourceDefinitionSpec.scope": ("Cluster", "Namespaced"),
}

NOT_NEGATIVE = frozenset(
    {
        "V1DeploymentSpec.replicas",
        "V1DeploymentSpec.minReadySeconds",
        "V1DeploymentSpec.revisionHistoryLimit",
        "V1ReplicaSetSpec.replicas",
        "V1StatefulSetSpec.replicas",
        "V1ReplicationControllerSpec.replicas",
        "V1ScaleSpec.replicas",
        "V1JobSpec.parallelism",
        "V1JobSpec.completions",
        "V1JobSpec.backoffLimit",
        "V1JobSpec.ttlSecondsAfterFinished",
        "V1PodSpec.terminationGracePeriodSeconds",
    }
)

PORTS = frozenset({"V1ContainerPort.containerPort", "V1ServicePort.port"})
