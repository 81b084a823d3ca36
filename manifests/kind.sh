#!/bin/bash
# Creates a Kubernetes cluster on this machine, with Papo and a first chat room in it. Needs docker, kind, kubectl and helm.
#
#   manifests/kind.sh [--workers N]     N nodes beside the control plane; 0 if not given
#
# The cluster is called papo and answers on ports 80 and 443 of 127.0.0.1. The first run takes about 15 minutes, most of them for
# building the images. If a run was interrupted, run the script again: it continues with the missing steps. A run after a change of
# the code builds the images again and restarts the operator and the rooms.
#
#   kind delete cluster --name papo     removes everything
#
# Set CONTOUR_MANIFEST to a file or a URL to install another manifest of the ingress controller.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^appVersion: "\(.*\)"/\1/p' charts/papo/Chart.yaml)
contour_version=v1.33.8
contour=${CONTOUR_MANIFEST:-https://raw.githubusercontent.com/projectcontour/contour/$contour_version/examples/render/contour.yaml}

workers=0
case ${1:-} in
    '') ;;
    --workers) workers=${2:?--workers needs a number} ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
    *) echo "kind.sh: unknown argument $1; see --help" >&2; exit 2 ;;
esac

fail() { echo "kind.sh: $*" >&2; exit 1; }
step() { # TITLE ESTIMATE: prints the duration of the previous step and the title of the next
    [ -z "${title:-}" ] || echo "    done in $((SECONDS - began)) s"
    title=$1 began=$SECONDS
    [ -z "$1" ] || echo "==> $1 ($2)"
}
trap '[ -z "${title:-}" ] || echo "kind.sh: this step failed: $title. Remove the cause and run kind.sh again." >&2' ERR
in_cluster() { kubectl --context kind-papo "$@"; }
exists() { kind get clusters 2> /dev/null | grep -qx papo; }
is_whole() { # all nodes are ready, and the last object that kind creates exists
    local nodes
    nodes=$(kind get nodes --name papo 2> /dev/null | wc -l)
    in_cluster --request-timeout=5s get storageclass standard > /dev/null 2>&1 &&
        [ "$(in_cluster --request-timeout=5s get nodes --no-headers 2> /dev/null | grep -cw Ready)" = "$nodes" ]
}

# The script checks all preconditions before it creates anything.
for tool in docker kind kubectl helm; do
    command -v $tool > /dev/null || fail "$tool is not installed; kind.sh needs docker, kind, kubectl and helm on the PATH"
done
docker info > /dev/null 2>&1 || fail "the Docker daemon does not answer; start it, or get the right to use it ('docker info' shows the error)"
for port in 80 443; do
    # The cluster of an earlier run may listen on the port.
    ! docker port papo-control-plane $port/tcp > /dev/null 2>&1 || continue
    ! (: <> /dev/tcp/127.0.0.1/$port) 2> /dev/null ||
        fail "port $port of 127.0.0.1 is in use; end the program that listens there ('ss -ltnp sport = :$port' shows it), or change hostPort in manifests/kind.yaml"
done
# The Dockerfile needs BuildKit. Docker uses BuildKit by default since version 23.
export DOCKER_BUILDKIT=1

step "Create the cluster papo" "about 1 minute; the first time kind also downloads its node image, about 400 MB"
if exists; then
    # kind writes the kubectl context last: a cluster without a context is incomplete.
    finished=$(kubectl config get-contexts -o name kind-papo 2> /dev/null || true)
    kind get nodes --name papo | xargs docker start > /dev/null     # after a restart of the machine the nodes are stopped
    kind export kubeconfig --name papo > /dev/null 2>&1 || true
    deadline=$((SECONDS + 60))
    until is_whole || [ $SECONDS -ge $deadline ]; do sleep 2; done
    if is_whole; then
        echo "    the cluster exists already and is not changed"
    elif [ -n "$finished" ]; then
        fail "the cluster papo exists, but not all of its nodes are ready after 60 s: wait for them ('kubectl get nodes'), or delete it with 'kind delete cluster --name papo' and run kind.sh again"
    else
        echo "    an earlier run left an incomplete cluster: kind.sh deletes it and creates it again"
        kind delete cluster --name papo
    fi
fi
exists || { cat manifests/kind.yaml; for ((n = 0; n < workers; n++)); do echo '  - role: worker'; done; } | kind create cluster --config -
kubectl config use-context kind-papo > /dev/null

step "Build the images of server and operator" "about 10 minutes the first time, 5 after a change, else seconds"
for program in server operator; do docker build --target $program -t "papo-$program:$version" .; done

step "Load the images into the cluster" "about 10 seconds"
loaded=$(for program in server operator; do kind load docker-image --name papo "papo-$program:$version" 2>&1; done)
echo "$loaded"

step "Install the ingress controller, Contour" "about 1 minute"
in_cluster apply -f "$contour"
# Envoy must run on the node whose ports are mapped, and on no other.
in_cluster -n projectcontour patch daemonset envoy -p '{"spec": {"template": {"spec": {
    "nodeSelector": {"ingress-ready": "true"},
    "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}]}}}}'
in_cluster -n projectcontour rollout status daemonset/envoy --timeout=5m

step "Install Papo with its quick-start broker" "about 1 minute"
# An interrupted helm leaves a pending release, and the next helm would fail. Without its Secret helm continues.
in_cluster -n papo-system delete secrets -l 'owner=helm,name=papo,status in (pending-install,pending-upgrade,pending-rollback)'
# Contour allows WebSockets on an Ingress only for the paths in this annotation.
already=$(in_cluster -n papo-system get deployment papo-operator --ignore-not-found -o name)
helm --kube-context kind-papo upgrade --install papo charts/papo --namespace papo-system --create-namespace --wait --timeout 5m \
    --set-string 'ingress.annotations.projectcontour\.io/websocket-routes=/socket.io/'
if [ -n "$already" ] && grep -q 'not yet present' <<< "$loaded"; then
    # The images have new content under the same tag, so running pods need a restart.
    in_cluster -n papo-system rollout restart deployment/papo-operator
    in_cluster get deployments -A -l app.kubernetes.io/managed-by=papo-operator --no-headers |
        while read -r namespace name _; do in_cluster -n "$namespace" rollout restart "deployment/$name"; done
    in_cluster -n papo-system rollout status deployment/papo-operator --timeout=3m
fi

step "Create the room geral" "about 20 seconds"
in_cluster apply -f manifests/samples/geral.yaml
in_cluster wait --for=condition=Ready chatroom/geral --timeout=3m || {
    in_cluster describe chatroom/geral | sed -n '/^Status/,$p' >&2
    fail "the room geral is not ready after 3 minutes; its conditions above say why"
}
step ""
echo "open http://geral.papo.localhost (ready in $SECONDS s)"
