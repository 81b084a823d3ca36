{{/* Namespace of the room of `helm test`: one that the operator manages. */}}
{{- define "papo.tests.namespace" -}}
{{- first .Values.watchNamespaces | default .Release.Namespace -}}
{{- end }}
