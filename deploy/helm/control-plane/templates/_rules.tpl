{{/* Made by `make gen` from shared/security/permissions.py; do not edit. */}}

{{- define "flotilla.hubRules" -}}
- apiGroups: [cluster.k8s.io]
  resources: [clusters]
  verbs: [list, watch, create, delete]
- apiGroups: [cluster.k8s.io]
  resources: [workloads]
  verbs: [list, watch, create, update, patch, delete]
- apiGroups: [cluster.k8s.io]
  resources: [clusters/status, workloads/status]
  verbs: [patch]
- apiGroups: ['']
  resources: [namespaces]
  verbs: [create]
{{- end }}

{{- define "flotilla.hubLeaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [6d45bc58.k8s.io]
  verbs: [get, update]
{{- end }}

{{- define "flotilla.hubProvisionRules" -}}
- apiGroups: [cluster.k8s.io]
  resources: [clusters]
  verbs: [patch]
{{- end }}

{{- define "flotilla.hubClusterApiRules" -}}
- apiGroups: [cluster.x-k8s.io]
  resources: [clusters]
  verbs: [get, create, patch, delete]
- apiGroups: ['']
  resources: [secrets]
  verbs: [get]
{{- end }}

{{- define "flotilla.hubKubeconfigsRules" -}}
- apiGroups: ['']
  resources: [secrets]
  resourceNames: [flotilla-kubeconfigs]
  verbs: [get, create, patch]
{{- end }}

{{- define "flotilla.kubeconfigsSecret" -}}
flotilla-kubeconfigs
{{- end }}

{{- define "flotilla.hubWebhookRules" -}}
- apiGroups: [admissionregistration.k8s.io]
  resources: [validatingwebhookconfigurations]
  resourceNames: [flotilla-hub.cluster.k8s.io]
  verbs: [create, patch]
{{- end }}
