{{/* Where the room of `helm test` is: a namespace that the operator serves. */}}
{{- define "papo.tests.namespace" -}}
{{- first .Values.watchNamespaces | default .Release.Namespace -}}
{{- end }}
