{{/* The StatefulSet of the quick-start broker that an earlier run has installed, as YAML; empty without one, and without a cluster. */}}
{{- define "papo.rabbitmq.stored" -}}
{{- lookup "apps/v1" "StatefulSet" .Release.Namespace (include "papo.rabbitmq.fullname" .) | toYaml -}}
{{- end }}
