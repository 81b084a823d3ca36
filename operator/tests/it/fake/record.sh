#!/bin/bash
# Records how a real API server answers what the operator may ask in vain, for the fake one beside this file.
#
#   KUBECONFIG=... IMAGE=... operator/tests/it/fake/record.sh       writes recorded/NAME.CODE: the body as it came
#
# Needs the right to create and delete objects in the namespace papo-record, which it makes and removes.
set -euo pipefail
: "${IMAGE:?an image that the nodes have, of a container that runs until it is stopped}"
cd "$(dirname "$0")"
mkdir -p recorded
namespace=papo-record
kubectl create namespace $namespace > /dev/null
token_file=$(mktemp)
proxy=
leave() {
    [ -z "$proxy" ] || kill "$proxy"
    rm -f "$token_file"
    kubectl delete namespace $namespace --wait=false > /dev/null
    kubectl delete validatingwebhookconfiguration $namespace --ignore-not-found > /dev/null
}
trap leave EXIT

coproc KUBECTL_PROXY { exec kubectl proxy --port=0; }
proxy=$KUBECTL_PROXY_PID
read -r line <&"${KUBECTL_PROXY[0]}"
api=http://${line##* }
record() { # NAME CURL-ARGUMENTS...
    local body code
    body=$(mktemp)
    code=$(curl -s -o "$body" -w '%{http_code}' "${@:2}")
    rm -f "recorded/$1".*
    mv "$body" "recorded/$1.$code"
    echo "$1: $code"
}
json='Content-Type: application/json'
apply='Content-Type: application/apply-patch+yaml'
core=$api/api/v1/namespaces/$namespace leases=$api/apis/coordination.k8s.io/v1/namespaces/$namespace/leases
lease='{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "here"}}'

record missing-group "$api/apis/not.installed.example/v1/widgets?limit=1"
record missing-kind "$api/apis/apps/v1/widgets?limit=1"
record missing-object "$leases/absent"
record missing-namespace -X PATCH -H "$apply" "$api/apis/coordination.k8s.io/v1/namespaces/absent/leases/here?fieldManager=record" -d "$lease"
record forbidden -H 'Impersonate-User: system:serviceaccount:papo-record:nobody' "$leases"
curl -s -o /dev/null -X POST -H "$json" "$leases" -d "$lease"
record exists -X POST -H "$json" "$leases" -d "$lease"
record conflict -X PUT -H "$json" "$leases/here" -d "${lease/\"name\"/\"resourceVersion\": \"1\", \"name\"}"
record invalid -X PATCH -H "$apply" "$leases/here?fieldManager=record" -d "${lease/\}\}/\}, \"spec\": {\"leaseDurationSeconds\": -1\}\}}"
record malformed -X PATCH -H "$apply" "$leases/here?fieldManager=record" -d "${lease/\}\}/\}, \"spec\": {\"leaseDurationSeconds\": \"x\"\}\}}"
# The API server forgets versions after five minutes: a cluster that is younger answers 200.
record expired "$leases?limit=1&resourceVersion=1&resourceVersionMatch=Exact"

# An eviction that a budget forbids is the one request that asks for patience whatever the load.
kubectl -n $namespace apply -f - > /dev/null <<OBJECTS
apiVersion: v1
kind: Pod
metadata: {name: kept, labels: {app: kept}}
spec: {containers: [{name: kept, image: "$IMAGE"}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: kept}
spec: {minAvailable: 1, selector: {matchLabels: {app: kept}}}
OBJECTS
kubectl -n $namespace wait --for=condition=Ready pod/kept --timeout=60s > /dev/null
kubectl -n $namespace wait --for=jsonpath='{.status.currentHealthy}'=1 pdb/kept --timeout=60s > /dev/null
record too-many-requests -X POST -H "$json" "$core/pods/kept/eviction" \
    -d '{"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "kept", "namespace": "'$namespace'"}}'

kubectl apply -f - > /dev/null <<OBJECTS
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: $namespace}
webhooks:
  - name: nobody.papo.example
    clientConfig: {service: {name: nobody, namespace: $namespace}}
    rules: [{apiGroups: [coordination.k8s.io], apiVersions: [v1], operations: [CREATE], resources: [leases]}]
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $namespace}}
    admissionReviewVersions: [v1]
    sideEffects: None
OBJECTS
record unavailable --retry 0 -X POST -H "$json" "$leases" -d "${lease/here/other}"
