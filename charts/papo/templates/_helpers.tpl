{{/* Name of the chart, as a label. */}}
{{- define "papo.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* Name of the release's objects, or the prefix of their names. */}}
{{- define "papo.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "papo.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "papo.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* Labels of every object. */}}
{{- define "papo.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: papo
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Selector of the operator's pods. It must not change in an upgrade, because the selector of a Deployment is immutable. */}}
{{- define "papo.operator.selector" -}}
app.kubernetes.io/name: {{ include "papo.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Selector of the quick-start broker's pods. */}}
{{- define "papo.rabbitmq.selector" -}}
app.kubernetes.io/name: {{ include "papo.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: rabbitmq
{{- end }}

{{/* Name of the quick-start broker's objects. */}}
{{- define "papo.rabbitmq.fullname" -}}
{{- printf "%s-rabbitmq" (include "papo.fullname" .) -}}
{{- end }}

{{/* Name of the Service that gives the nodes of the quick-start broker their names. */}}
{{- define "papo.rabbitmq.nodes" -}}
{{- printf "%s-nodes" (include "papo.rabbitmq.fullname" .) -}}
{{- end }}

{{/* Name of the Secret with the Erlang cookie of the quick-start broker's nodes. */}}
{{- define "papo.rabbitmq.cookieSecret" -}}
{{- .Values.rabbitmq.erlangCookieSecret | default (printf "%s-erlang-cookie" (include "papo.rabbitmq.fullname" .)) -}}
{{- end }}

{{/*
Not empty if the nodes of the quick-start broker have a Secret with a cookie that stays: that of the values, or one that Helm keeps in the cluster.
Who brings a Secret for the password keeps all Secrets.
*/}}
{{- define "papo.rabbitmq.cookie" -}}
{{- $rabbitmq := .Values.rabbitmq -}}
{{- if or $rabbitmq.erlangCookieSecret $rabbitmq.erlangCookie (gt (int $rabbitmq.replicas) 1) (and (not $rabbitmq.existingSecret) (include "papo.cluster" .)) -}}yes{{- end -}}
{{- end }}

{{/* Fails if the StatefulSet of the quick-start broker in the cluster cannot become the one of the values without a step by hand. */}}
{{- define "papo.rabbitmq.upgradable" -}}
{{- $spec := (include "papo.rabbitmq.stored" . | fromYaml).spec -}}
{{- if $spec -}}
{{- $name := include "papo.rabbitmq.fullname" . -}}
{{- if ne $spec.serviceName (include "papo.rabbitmq.nodes" .) -}}
{{- fail (printf "An older chart created the StatefulSet %s, and Kubernetes cannot change its serviceName. Delete it without its pod and its volume, then run helm again; the broker restarts once and keeps its data: kubectl delete statefulset %s --namespace %s --cascade=orphan" $name $name .Release.Namespace) -}}
{{- end -}}
{{- if gt (int $spec.replicas) (int .Values.rabbitmq.replicas) -}}
{{- fail (printf "rabbitmq.replicas=%d: the broker has %d nodes, and its cluster cannot become smaller: without the majority of its nodes it serves nothing, and RabbitMQ's coordinator of streams cannot leave the last but one. Keep rabbitmq.replicas=%d. To begin again with %d node and without the messages of all rooms, delete the StatefulSet and the volumes before: docs/operations.md has the commands" (int .Values.rabbitmq.replicas) (int $spec.replicas) (int $spec.replicas) (int .Values.rabbitmq.replicas)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Ports of the quick-start broker, as YAML: name, number and application protocol of AMQP and of the management API. */}}
{{- define "papo.rabbitmq.ports" -}}
{{- if .Values.rabbitmq.tls.enabled -}}
amqp: {name: amqps, port: 5671, protocol: amqps}
management: {name: management-tls, port: 15671, protocol: https}
{{- else -}}
amqp: {name: amqp, port: 5672, protocol: amqp}
management: {name: management, port: 15672, protocol: http}
{{- end -}}
{{- end }}

{{/* Host of the quick-start broker. */}}
{{- define "papo.rabbitmq.host" -}}
{{- printf "%s.%s.svc" (include "papo.rabbitmq.fullname" .) .Release.Namespace -}}
{{- end }}

{{/* Hosts of its nodes, separated by commas. A generated certificate is valid for them. */}}
{{- define "papo.rabbitmq.hosts" -}}
{{- $hosts := list -}}
{{- range $node := until (int .Values.rabbitmq.replicas) -}}
{{- $hosts = append $hosts (printf "%s-%d.%s.%s.svc" (include "papo.rabbitmq.fullname" $) $node (include "papo.rabbitmq.nodes" $) $.Release.Namespace) -}}
{{- end -}}
{{- join "," $hosts -}}
{{- end }}

{{/* Name of the Secret with the quick-start broker's certificate. */}}
{{- define "papo.rabbitmq.tlsSecret" -}}
{{- .Values.rabbitmq.tls.existingSecret | default (printf "%s-tls" (include "papo.rabbitmq.fullname" .)) -}}
{{- end }}

{{/* Name of the default broker's Secret, for rooms without `spec.broker`; empty if there is no default broker. */}}
{{- define "papo.broker.secret" -}}
{{- if .Values.rabbitmq.enabled -}}
{{- if .Values.broker.existingSecret }}{{ fail "broker.existingSecret and rabbitmq.enabled exclude each other: set rabbitmq.enabled to false" }}{{ end -}}
{{- .Values.rabbitmq.existingSecret | default (printf "%s-default-user" (include "papo.rabbitmq.fullname" .)) -}}
{{- else -}}
{{- .Values.broker.existingSecret -}}
{{- end -}}
{{- end }}

{{/*
Fails if Helm does not talk to a cluster, where it would keep what it generates: (dict "what" "password" "set" "what to set instead" "context" $).
*/}}
{{- define "papo.generated" -}}
{{- if not (include "papo.cluster" .context) -}}
{{- fail (printf "Helm renders the chart without a cluster (helm template, --dry-run=client, Argo CD), so it would generate another %s of the broker each time: %s" .what .set) -}}
{{- end -}}
{{- end }}

{{- define "papo.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "papo.fullname" .) -}}
{{- end }}

{{/* An image reference: (dict "image" <one of the values> "context" $). */}}
{{- define "papo.image" -}}
{{- $image := .image -}}
{{- $registry := .context.Values.imageRegistry -}}
{{- $reference := printf "%s:%s" $image.repository ($image.tag | default .context.Chart.AppVersion) -}}
{{- if $image.digest -}}{{- $reference = printf "%s@%s" $image.repository $image.digest -}}{{- end -}}
{{- if $registry -}}{{- printf "%s/%s" (trimSuffix "/" $registry) $reference -}}{{- else -}}{{- $reference -}}{{- end -}}
{{- end }}

{{/* Security context of a container: Pod Security `restricted`, with a read-only root file system. */}}
{{- define "papo.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Security context of a pod: (dict "user" 65532). */}}
{{- define "papo.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
fsGroup: {{ .user }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The given tolerations, and one of 30 s for each taint of a lost node that none of them matches. */}}
{{- define "papo.tolerations" -}}
{{- $given := . | default list -}}
{{- $all := $given -}}
{{- range $key := list "node.kubernetes.io/not-ready" "node.kubernetes.io/unreachable" -}}
{{- $said := false -}}
{{- range $given }}{{ if and (or (not .key) (eq .key $key)) (or (not .effect) (eq .effect "NoExecute")) }}{{ $said = true }}{{ end }}{{ end -}}
{{- if not $said -}}
{{- $all = append $all (dict "key" $key "operator" "Exists" "effect" "NoExecute" "tolerationSeconds" 30) -}}
{{- end -}}
{{- end -}}
{{- toYaml $all -}}
{{- end }}
