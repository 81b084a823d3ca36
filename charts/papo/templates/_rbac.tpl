{{/*
Rights of the operator in the namespaces of rooms. RBAC cannot limit `create` to names, and the names of a room's objects
depend on the room, so no rule lists names. The operator has neither list nor watch on Secrets: it gets a broker's Secret by the
name that the room gives.
*/}}
{{- define "papo.rbac.rooms" -}}
- apiGroups: [papo.chat]
  resources: [chatrooms]
  verbs: [get, list, watch, patch]
- apiGroups: [papo.chat]
  resources: [chatrooms/status]
  verbs: [patch]
# The admission plugin OwnerReferencesPermissionEnforcement requires this right of a client that sets owner references to a room.
- apiGroups: [papo.chat]
  resources: [chatrooms/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# The operator reads from the status of a pod why a server does not start, and annotates pods so that their kubelets read a changed Secret
# at once. Whoever may patch Deployments can change pods anyway.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, patch]
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

{{/* Rights of the job that removes the rooms' finalizers at `helm uninstall`. */}}
{{- define "papo.rbac.removeFinalizers" -}}
- apiGroups: [papo.chat]
  resources: [chatrooms]
  verbs: [list, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

{{/* Annotations of this job's objects: Helm creates them in the order of the given weight. */}}
{{- define "papo.removeFinalizers.hook" -}}
helm.sh/hook: post-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}
