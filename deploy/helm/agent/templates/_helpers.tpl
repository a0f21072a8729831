{{- define "flotilla-agent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "flotilla-agent.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "flotilla-agent.name" . }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* What a Deployment selects its pods by; it can never change. Takes the context, and `component`. */}}
{{- define "flotilla-agent.selector" -}}
app.kubernetes.io/name: {{ include "flotilla-agent.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "flotilla-agent.labels" -}}
{{ include "flotilla-agent.selector" . }}
app.kubernetes.io/part-of: flotilla
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "flotilla-agent.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ printf "%s@%s" .repository .digest }}
{{- else }}{{ printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Environment of an agent: `root`, `component`, `own` (the agent's values), `more` (variables that the chart sets). */}}
{{- define "flotilla-agent.env" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $plain := dict
      "FLOTILLA_KAFKA_BOOTSTRAP" $kafka.bootstrap
      "FLOTILLA_KAFKA_SECURITY" $kafka.security
      "FLOTILLA_LOG_LEVEL" .root.Values.logLevel -}}
{{- if $kafka.ca.secret }}{{ $_ := set $plain "FLOTILLA_KAFKA_CA" (printf "/flotilla/kafka-ca/%s" $kafka.ca.key) }}{{ end -}}
{{- with .own.kafka.certificate.secret -}}
{{- $_ := set $plain "FLOTILLA_KAFKA_CERTIFICATE" "/flotilla/kafka-certificate/tls.crt" -}}
{{- $_ := set $plain "FLOTILLA_KAFKA_KEY" "/flotilla/kafka-certificate/tls.key" -}}
{{- end -}}
{{- if hasPrefix "SASL_" $kafka.security }}{{ $_ := set $plain "FLOTILLA_KAFKA_SASL_MECHANISM" $kafka.saslMechanism }}{{ end -}}
{{- $all := mergeOverwrite $plain .more .root.Values.env .own.env -}}
{{- range $name := keys $all | sortAlpha }}
- name: {{ $name }}
  value: {{ get $all $name | toString | quote }}
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

{{/* The pod of an agent; takes what `env` takes, `module`, and `webhooks`, which may name a Secret. */}}
{{- define "flotilla-agent.pod" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "flotilla-agent.labels" . | nindent 4 }}
    {{- with $values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $values.podAnnotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ printf "%s-%s" (include "flotilla-agent.fullname" .root) .component }}
  # The service account is how an agent reaches its API server.
  automountServiceAccountToken: true
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: { type: RuntimeDefault }
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if and $values.topologySpread.enabled (gt (int (default 1 .own.replicas)) 1) }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: {{ $values.topologySpread.topologyKey }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: { matchLabels: { {{- include "flotilla-agent.selector" . | replace "\n" ", " -}} } }
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: { matchLabels: { {{- include "flotilla-agent.selector" . | replace "\n" ", " -}} } }
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "flotilla-agent.image" .root }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [{{ .module }}]
      env: {{- include "flotilla-agent.env" . | nindent 8 }}
      ports: [{ name: http, containerPort: 8080, protocol: TCP }]
      # It may wait for the broker and for its topic; that is no reason to start it again.
      startupProbe: { httpGet: { path: /healthz, port: http }, periodSeconds: 2, failureThreshold: 60 }
      livenessProbe: { httpGet: { path: /healthz, port: http }, periodSeconds: 15, timeoutSeconds: 5, failureThreshold: 4 }
      readinessProbe: { httpGet: { path: /readyz, port: http }, periodSeconds: 5, timeoutSeconds: 3 }
      resources: {{- toYaml .own.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      {{- if or $values.kafka.ca.secret .own.kafka.certificate.secret .webhooks }}
      volumeMounts:
        {{- if $values.kafka.ca.secret }}
        - { name: kafka-ca, mountPath: /flotilla/kafka-ca, readOnly: true }
        {{- end }}
        {{- if .own.kafka.certificate.secret }}
        - { name: kafka-certificate, mountPath: /flotilla/kafka-certificate, readOnly: true }
        {{- end }}
        {{- if .webhooks }}
        - { name: webhooks, mountPath: /flotilla/webhooks, readOnly: true }
        {{- end }}
  volumes:
        {{- with $values.kafka.ca.secret }}
    - name: kafka-ca
      secret: { secretName: {{ . }}, defaultMode: 0440 }
        {{- end }}
        {{- with .own.kafka.certificate.secret }}
    - name: kafka-certificate
      secret: { secretName: {{ . }}, defaultMode: 0440 }
        {{- end }}
        {{- with .webhooks }}
    - name: webhooks
      secret: { secretName: {{ . }}, defaultMode: 0440 }
        {{- end }}
      {{- end }}
{{- end }}
