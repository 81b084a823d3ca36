#!/bin/bash
# A cluster on this machine with Papo in it: needs Docker, kind, kubectl and helm. Then open http://geral.papo.localhost
#
#   manifests/kind.sh           creates the cluster papo (kind delete cluster --name papo removes it)
#
# It has not been run where Papo is developed, which has no Docker and no way to an image registry: the same chart, samples
# and tests run there on a cluster of the same kind (.ci/e2e). If a step fails for you, please report it.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^appVersion: "\(.*\)"/\1/p' charts/papo/Chart.yaml)
contour=${CONTOUR_MANIFEST:-https://projectcontour.io/quickstart/contour.yaml}

kind get clusters 2> /dev/null | grep -qx papo || kind create cluster --config manifests/kind.yaml
for program in server operator; do
    docker build --target "$program" -t "papo-$program:$version" .
    kind load docker-image --name papo "papo-$program:$version"
done

kubectl config use-context kind-papo
kubectl apply -f "$contour"
kubectl -n projectcontour rollout status daemonset/envoy --timeout=5m
# Contour opens WebSockets on an Ingress only for the paths it is told.
helm upgrade --install papo charts/papo --namespace papo-system --create-namespace --wait --timeout 5m \
    --set-string 'ingress.annotations.projectcontour\.io/websocket-routes=/socket.io/'
kubectl apply -f manifests/samples/geral.yaml
kubectl wait --for=condition=Ready chatroom/geral --timeout=3m
echo "open http://geral.papo.localhost"
