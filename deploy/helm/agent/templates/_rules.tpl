{{/* Made by `make gen` from shared/security/permissions.py; do not edit. */}}

{{- define "flotilla-agent.watcherRules" -}}
- apiGroups: ['']
  resources: [namespaces, nodes, persistentvolumeclaims, persistentvolumes, pods, services]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [daemonsets, deployments, statefulsets]
  verbs: [list, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch]
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [list, watch]
{{- end }}

{{- define "flotilla-agent.watcherMetricsRules" -}}
- apiGroups: [metrics.k8s.io]
  resources: [nodes, pods]
  verbs: [list]
{{- end }}

{{- define "flotilla-agent.watcherAskedRules" -}}
- apiGroups: [custom.metrics.k8s.io]
  resources: ['*']
  verbs: [get]
- apiGroups: [external.metrics.k8s.io]
  resources: ['*']
  verbs: [list]
{{- end }}

{{- define "flotilla-agent.executorRules" -}}
- apiGroups: ['']
  resources: [pods]
  verbs: [list, watch, create, patch, delete]
- apiGroups: ['']
  resources: [pods/binding]
  verbs: [create]
- apiGroups: ['']
  resources: [namespaces]
  verbs: [list, watch, create, patch]
- apiGroups: ['']
  resources: [nodes]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [daemonsets, deployments, replicasets, statefulsets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, patch, delete]
{{- end }}

{{- define "flotilla-agent.executorNodeGroupRules" -}}
- apiGroups: ['']
  resources: [nodes]
  verbs: [patch, delete]
- apiGroups: ['']
  resources: [pods/eviction]
  verbs: [create]
{{- end }}

{{- define "flotilla-agent.executorKwokRules" -}}
- apiGroups: ['']
  resources: [nodes]
  verbs: [create]
{{- end }}

{{- define "flotilla-agent.executorClusterApiRules" -}}
- apiGroups: [cluster.x-k8s.io]
  resources: [machinedeployments/scale, machinepools/scale]
  verbs: [get, patch]
- apiGroups: [cluster.x-k8s.io]
  resources: [machines]
  verbs: [list, patch]
- apiGroups: [cluster.x-k8s.io]
  resources: [machinepools]
  verbs: [get]
{{- end }}

{{- define "flotilla-agent.observedVerbs" -}}
[list, watch]
{{- end }}

{{- define "flotilla-agent.appliedVerbs" -}}
[list, watch, create, patch, delete]
{{- end }}
