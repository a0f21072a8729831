{{- define "flotilla.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "flotilla.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "flotilla.name" . }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a Deployment selects its pods by; it can never change. Takes the context, and `component`. */}}
{{- define "flotilla.selector" -}}
app.kubernetes.io/name: {{ include "flotilla.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "flotilla.labels" -}}
{{ include "flotilla.selector" . }}
app.kubernetes.io/part-of: flotilla
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Takes `root`, and `image`: values of one. */}}
{{- define "flotilla.image" -}}
{{- with .image -}}
{{- if .digest }}{{ printf "%s@%s" .repository .digest }}
{{- else }}{{ printf "%s:%s" .repository (default $.root.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Environment of a service: `root`, `own` (the service's values), `more` (variables that the chart sets), `redis`. */}}
{{- define "flotilla.env" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $redis := .root.Values.redis -}}
{{- $plain := dict
      "FLOTILLA_KAFKA_BOOTSTRAP" $kafka.bootstrap
      "FLOTILLA_KAFKA_SECURITY" $kafka.security
      "FLOTILLA_KAFKA_REPLICATION" $kafka.replication
      "FLOTILLA_LOG_LEVEL" .root.Values.logLevel -}}
{{- if $kafka.ca.secret }}{{ $_ := set $plain "FLOTILLA_KAFKA_CA" (printf "/flotilla/kafka-ca/%s" $kafka.ca.key) }}{{ end -}}
{{- with .own.kafka.certificate.secret -}}
{{- $_ := set $plain "FLOTILLA_KAFKA_CERTIFICATE" "/flotilla/kafka-certificate/tls.crt" -}}
{{- $_ := set $plain "FLOTILLA_KAFKA_KEY" "/flotilla/kafka-certificate/tls.key" -}}
{{- end -}}
{{- if hasPrefix "SASL_" $kafka.security }}{{ $_ := set $plain "FLOTILLA_KAFKA_SASL_MECHANISM" $kafka.saslMechanism }}{{ end -}}
{{- if and .redis $redis.ca.secret }}{{ $_ := set $plain "FLOTILLA_REDIS_CA" (printf "/flotilla/redis-ca/%s" $redis.ca.key) }}{{ end -}}
{{- if and .redis $redis.certificate.secret -}}
{{- $_ := set $plain "FLOTILLA_REDIS_CERTIFICATE" "/flotilla/redis-certificate/tls.crt" -}}
{{- $_ := set $plain "FLOTILLA_REDIS_KEY" "/flotilla/redis-certificate/tls.key" -}}
{{- end -}}
{{- if and .redis (not $redis.secret.name) }}{{ $_ := set $plain "FLOTILLA_REDIS_URL" $redis.url }}{{ end -}}
{{- $all := mergeOverwrite $plain .more .root.Values.env (default dict .own.env) -}}
{{- range $name := keys $all | sortAlpha }}
- name: {{ $name }}
  value: {{ get $all $name | toString | quote }}
{{- end }}
{{- if and .redis $redis.secret.name }}
- name: FLOTILLA_REDIS_URL
  valueFrom: { secretKeyRef: { name: {{ $redis.secret.name }}, key: {{ $redis.secret.key }} } }
{{- end }}
{{- if and .redis $redis.account.secret }}
{{- with $redis.account.usernameKey }}
- name: FLOTILLA_REDIS_USERNAME
  valueFrom: { secretKeyRef: { name: {{ $redis.account.secret }}, key: {{ . }} } }
{{- end }}
- name: FLOTILLA_REDIS_PASSWORD
  valueFrom: { secretKeyRef: { name: {{ $redis.account.secret }}, key: {{ $redis.account.passwordKey }} } }
{{- end }}
{{- with .own.kafka.sasl }}
{{- if .secret }}
- name: FLOTILLA_KAFKA_USERNAME
  valueFrom: { secretKeyRef: { name: {{ .secret }}, key: {{ .usernameKey }} } }
- name: FLOTILLA_KAFKA_PASSWORD
  valueFrom: { secretKeyRef: { name: {{ .secret }}, key: {{ .passwordKey }} } }
{{- end }}
{{- end }}
{{- end }}

{{/* Volumes of secrets, by name: [name, secret]. Takes what `env` takes, and `mounts`: further ones of the service, [name, secret, true] where
it may come later. */}}
{{- define "flotilla.secrets" -}}
{{- $found := list -}}
{{- with .root.Values.kafka.ca.secret }}{{ $found = append $found (list "kafka-ca" .) }}{{ end -}}
{{- with .own.kafka.certificate.secret }}{{ $found = append $found (list "kafka-certificate" .) }}{{ end -}}
{{- if .redis }}
{{- with .root.Values.redis.ca.secret }}{{ $found = append $found (list "redis-ca" .) }}{{ end -}}
{{- with .root.Values.redis.certificate.secret }}{{ $found = append $found (list "redis-certificate" .) }}{{ end -}}
{{- end -}}
{{- range .mounts }}{{ $found = append $found . }}{{ end -}}
{{- toJson $found -}}
{{- end }}

{{- define "flotilla.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "flotilla.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "flotilla.where" -}}
{{- with .imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The pod of a service; takes what `env` takes, and `component`, `image`, `mounts`, `tmp` (the emptyDir of /tmp, if it has one), `ports`. */}}
{{- define "flotilla.pod" -}}
{{- $values := .root.Values -}}
{{- $secrets := include "flotilla.secrets" . | fromJsonArray -}}
metadata:
  labels:
    {{- include "flotilla.labels" . | nindent 4 }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ printf "%s-%s" (include "flotilla.fullname" .root) .component }}
  automountServiceAccountToken: {{ eq .component "hub" }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  securityContext: {{- include "flotilla.podSecurity" . | nindent 4 }}
  {{- include "flotilla.where" $values | nindent 2 }}
  {{- if and $values.topologySpread.enabled (gt (int .own.replicas) 1) }}
  topologySpreadConstraints:
    {{- range $key := list $values.topologySpread.topologyKey "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: { matchLabels: { {{- include "flotilla.selector" $ | replace "\n" ", " -}} } }
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "flotilla.image" . }}
      imagePullPolicy: {{ .image.pullPolicy }}
      args: [services.{{ .component }}]
      env: {{- include "flotilla.env" . | nindent 8 }}
      ports:
        - { name: http, containerPort: 8080, protocol: TCP }
        {{- range .ports }}
        - {{ toYaml . | nindent 10 | trim }}
        {{- end }}
      # It may wait for the broker; that is no reason to start it again.
      startupProbe: { httpGet: { path: /healthz, port: http }, periodSeconds: 2, failureThreshold: 90 }
      livenessProbe: { httpGet: { path: /healthz, port: http }, periodSeconds: 15, timeoutSeconds: 5, failureThreshold: 4 }
      readinessProbe: { httpGet: { path: /readyz, port: http }, periodSeconds: 5, timeoutSeconds: 3 }
      resources: {{- toYaml .own.resources | nindent 8 }}
      securityContext: {{- include "flotilla.containerSecurity" . | nindent 8 }}
      {{- if or $secrets .tmp }}
      volumeMounts:
        {{- range $secrets }}
        - { name: {{ index . 0 }}, mountPath: /flotilla/{{ index . 0 }}, readOnly: true }
        {{- end }}
        {{- if .tmp }}
        - { name: tmp, mountPath: /tmp }
        {{- end }}
  volumes:
        {{- range $secrets }}
    - name: {{ index . 0 }}
      secret: { secretName: {{ index . 1 }}, defaultMode: 0440{{ if gt (len .) 2 }}, optional: true{{ end }} }
        {{- end }}
        {{- with .tmp }}
    - { name: tmp, emptyDir: {{ toJson . }} }
        {{- end }}
      {{- end }}
{{- end }}

{{/* Whether agents of the clusters that the hub makes run here: a word, or nothing. */}}
{{- define "flotilla.hosts" -}}
{{- if and .Values.hub.enabled .Values.hub.provision.enabled .Values.hosted.enabled }}yes{{ end }}
{{- end }}

{{/* The services that run, as JSON: component → what `pod` takes but for `root` and `image`; those of `hosted` say so, and `alone` is one at a time. */}}
{{- define "flotilla.components" -}}
{{- $values := .Values -}}
{{- $all := dict -}}
{{- if $values.scheduler.enabled -}}
{{- $more := dict -}}
{{- with $values.scheduler.queues }}{{ $_ := set $more "FLOTILLA_SCHEDULER_QUEUES" (toJson .) }}{{ end -}}
{{- with $values.scheduler.priorityClasses }}{{ $_ := set $more "FLOTILLA_SCHEDULER_PRIORITY_CLASSES" (toJson .) }}{{ end -}}
{{- $_ := set $all "scheduler" (dict "more" $more "redis" false "mounts" list) -}}
{{- end -}}
{{- if $values.status.enabled -}}
{{- $_ := set $all "status" (dict "more" dict "redis" true "mounts" list) -}}
{{- end -}}
{{- if $values.autoscaler.enabled -}}
{{- $_ := set $all "autoscaler" (dict "more" dict "redis" false "mounts" list "tmp" (dict "sizeLimit" "256Mi")) -}}
{{- end -}}
{{- if $values.hub.enabled -}}
{{- $_ := set $all "hub" (include "flotilla.hub" . | fromJson) -}}
{{- end -}}
{{- if include "flotilla.hosts" . -}}
{{- $mounts := list (list "kubeconfigs" (include "flotilla.kubeconfigsSecret" .) true) -}}
{{- $common := dict "redis" false "mounts" $mounts "tmp" (include "flotilla.keys" . | fromJson) "hosted" true -}}
{{- $watcher := dict
      "FLOTILLA_WATCHER_KUBECONFIG_DIR" "/flotilla/kubeconfigs"
      "FLOTILLA_WATCHER_METRICS_S" $values.hosted.watcher.metricsSeconds -}}
{{- $_ := set $all "watcher" (mergeOverwrite (dict) $common (dict "more" $watcher)) -}}
{{- $executor := dict "FLOTILLA_EXECUTOR_KUBECONFIG_DIR" "/flotilla/kubeconfigs" -}}
{{- with $values.hosted.executor.managementSecret -}}
{{- $_ := set $executor "FLOTILLA_EXECUTOR_MANAGEMENT_KUBECONFIG" "/flotilla/management/kubeconfig" -}}
{{- $mounts = append $mounts (list "management" .) -}}
{{- end -}}
{{- $_ := set $all "executor" (mergeOverwrite (dict) $common (dict "more" $executor "alone" true "mounts" $mounts)) -}}
{{- end -}}
{{- toJson $all -}}
{{- end }}

{{/* The emptyDir of /tmp for who reads kubeconfigs: Python's TLS takes certificates and keys from files alone, which are put there. */}}
{{- define "flotilla.keys" -}}
{{- dict "medium" "Memory" "sizeLimit" "64Mi" | toJson -}}
{{- end }}

{{- define "flotilla.hub" -}}
{{- $hub := .Values.hub -}}
{{- $more := dict
      "FLOTILLA_HUB_INSTALL_CRDS" "false"
      "FLOTILLA_HUB_LEASE_NAMESPACE" .Release.Namespace
      "FLOTILLA_HUB_NAMESPACE" $hub.workloadNamespace
      "FLOTILLA_HUB_PROVISION" (toString $hub.provision.enabled)
      "FLOTILLA_HUB_WEBHOOK" (toString $hub.webhook.enabled)
      "FLOTILLA_HUB_ADMIT_PORT" "-1" -}}
{{- $mounts := list -}}
{{- $ports := list -}}
{{- $tmp := dict -}}
{{- if $hub.webhook.enabled -}}
{{- $more = mergeOverwrite $more (dict
      "FLOTILLA_HUB_ADMIT_HOST" "0.0.0.0"
      "FLOTILLA_HUB_ADMIT_PORT" "8443"
      "FLOTILLA_HUB_ADMIT_URL" $hub.webhook.url
      "FLOTILLA_HUB_WEBHOOK_FAILURE_POLICY" $hub.webhook.failurePolicy
      "FLOTILLA_HUB_CERTIFICATE" "/flotilla/admit/tls.crt"
      "FLOTILLA_HUB_KEY" "/flotilla/admit/tls.key"
      "FLOTILLA_HUB_CA" "/flotilla/admit/ca.crt") -}}
{{- $mounts = list (list "admit" $hub.webhook.certificate.secret) -}}
{{- $ports = list (dict "name" "admit" "containerPort" 8443 "protocol" "TCP") -}}
{{- end -}}
{{- with $hub.provision.managementSecret -}}
{{- $_ := set $more "FLOTILLA_HUB_MANAGEMENT_DIR" "/flotilla/management" -}}
{{- $mounts = append $mounts (list "management" .) -}}
{{- $tmp = include "flotilla.keys" $ | fromJson -}}
{{- end -}}
{{- if include "flotilla.hosts" . -}}
{{- $_ := set $more "FLOTILLA_HUB_KUBECONFIG_SECRET" (include "flotilla.kubeconfigsSecret" .) -}}
{{- /* A kubelet takes up to two minutes to take a key away from the agents. */ -}}
{{- $_ := set $more "FLOTILLA_HUB_LEAVE_S" "180" -}}
{{- end -}}
{{- dict "more" $more "redis" true "mounts" $mounts "ports" $ports "tmp" $tmp | toJson -}}
{{- end }}
