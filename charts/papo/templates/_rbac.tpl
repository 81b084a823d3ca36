{{/*
What the operator does in the namespaces of rooms, and nothing else. `create` cannot be limited to names, and what a
room owns is named after the room. No list or watch on Secrets: a broker's is fetched by the name a room gives.
*/}}
{{- define "papo.rbac.rooms" -}}
- apiGroups: [papo.chat]
  resources: [chatrooms]
  verbs: [get, list, watch, patch]
- apiGroups: [papo.chat]
  resources: [chatrooms/status]
  verbs: [patch]
# The finalizer is the room's own; owner references need this where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [papo.chat]
  resources: [chatrooms/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# Why a server does not start stands in the status of its pod.
- apiGroups: [""]
  resources: [pods]
  verbs: [list]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* What lets rooms go when the release is uninstalled. */}}
{{- define "papo.rbac.removeFinalizers" -}}
- apiGroups: [papo.chat]
  resources: [chatrooms]
  verbs: [list, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Annotations of the same: in which order its objects are made. */}}
{{- define "papo.removeFinalizers.hook" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
