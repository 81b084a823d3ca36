{{/*
Not empty if Helm talks to a cluster. `helm template`, and what renders the chart with it (Argo CD), does not: there `lookup` finds nothing. Every
cluster has the namespace kube-system; who may not read it can read the namespace of the release.
*/}}
{{- define "papo.cluster" -}}
{{- if or (lookup "v1" "Namespace" "" .Release.Namespace) (lookup "v1" "Namespace" "" "kube-system") -}}yes{{- end -}}
{{- end }}
