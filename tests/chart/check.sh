#!/bin/bash
# Checks the chart: helm lint --strict and kubeconform -strict for every toggle, and values that helm must reject. Needs no cluster.
# Uses helm and kubeconform from PATH, or builds them with Go; without both the suite is skipped.
#
#   tests/chart/check.sh        PAPO_TOOLS=DIR  folder for the built tools and the schemas
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${PAPO_TOOLS:-$PWD/target/tools}
export PATH=$tools/bin:$PATH
mkdir -p "$tools/bin"

passed=0 failed=0
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); echo "FAILED: $1" >&2; }

tool() {        # NAME MODULE
    command -v "$1" > /dev/null && return
    command -v go > /dev/null || { echo "chart: skipped, there is neither $1 nor Go to build it with"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
    GOBIN=$tools/bin CGO_ENABLED=0 go install "$2"
}
tool helm helm.sh/helm/v4/cmd/helm@v4.3.1
tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0
# The interpreter that Argo CD has for its health checks.
command -v glua > /dev/null || ! command -v go > /dev/null || tool glua github.com/yuin/gopher-lua/cmd/glua@v1.1.1

schemas=
if command -v go > /dev/null; then
    schemas=$tools/schemas
    [ -f "$schemas/.done" ] || python3 tests/chart/schemas.py "$schemas"
fi

# The chart as it is installed: it believes that there is a cluster. The cluster is new, because `lookup` still finds nothing.
rm -rf "$tools/in-cluster"
cp -r charts/papo "$tools/in-cluster"
echo '{{- define "papo.cluster" -}}yes{{- end }}' > "$tools/in-cluster/templates/_cluster.tpl"

render() { helm template papo "$tools/in-cluster" --namespace papo-system "$@"; }
render_without_cluster() { helm template papo charts/papo --namespace papo-system "$@"; }
accepts() {     # WHAT ARGUMENTS...
    local what=$1; shift
    if ! helm lint --quiet --strict charts/papo --namespace papo-system "$@" > "$tools/out" 2>&1; then cat "$tools/out"; fail "lint: $what"; return; fi
    if ! render "$@" > "$tools/rendered.yaml" 2> "$tools/out"; then cat "$tools/out"; fail "render: $what"; return; fi
    [ -n "$schemas" ] || { pass; return; }
    # ChatRoom is skipped: the end-to-end tests check the samples in a cluster.
    if kubeconform -strict -skip ChatRoom -schema-location "$schemas/{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json" "$tools/rendered.yaml" > "$tools/out" 2>&1
    then pass; else cat "$tools/out"; fail "kubeconform: $what"; fi
}
rejects() {     # WHAT ARGUMENTS...
    local what=$1; shift
    if render "$@" > /dev/null 2>&1; then fail "accepted $what"; else pass; fi
}

is() {          # WHAT COMMAND...
    if "${@:2}" > "$tools/out" 2>&1; then pass; else cat "$tools/out"; fail "$1"; fi
}
one_version() {
    local workspace chart
    workspace=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    chart=$(sed -n 's/^\(version\|appVersion\): "\{0,1\}\([^"]*\)"\{0,1\}$/\2/p' charts/papo/Chart.yaml | sort -u)
    echo "the workspace is $workspace, the chart $chart"
    [ "$workspace" = "$chart" ]
}
# Prints the keys with a value that have no comment above them, except keys inside an object that has one.
undocumented() {
    awk '/^ *(requests|limits|grafana_dashboard): / { next }
         /^ *[A-Za-z]+: *[^ #]/ && above !~ /^ *# / { print FILENAME ":" NR ": " $0; bad = 1 }
         { above = $0 } END { exit bad }' charts/papo/values.yaml
}

# How many of the chart's own tolerations the operator's pods have beside the given ones.
own_tolerations() {     # COUNT ARGUMENTS...
    local count=$1 found; shift
    found=$(render --show-only templates/deployment.yaml "$@" | grep -c 'tolerationSeconds: 30' || true)
    echo "$found of the chart's own tolerations instead of $count: $*"
    [ "$found" = "$count" ]
}

# Whether what the chart renders contains a text, or with `!` before it does not.
renders() {             # TEXT ARGUMENTS...
    local text=$1; shift
    render "$@" > "$tools/rendered.yaml" || return
    case $text in
        '! '*) ! grep -nF -- "${text#! }" "$tools/rendered.yaml" ;;
        *) grep -qF -- "$text" "$tools/rendered.yaml" || { echo "there is no '$text': $*"; return 1; } ;;
    esac
}

# Whether a template renders nothing.
not_rendered() {        # TEMPLATE ARGUMENTS...
    local template=$1; shift
    render "$@" > "$tools/rendered.yaml" && ! grep -F -- "# Source: papo/$template" "$tools/rendered.yaml"
}

# Whether the broker's pods and their configuration are the same for one node and for three: the only node must not restart when it gets peers.
same_pods() {
    local nodes
    for nodes in 1 3; do
        render --set rabbitmq.replicas=$nodes --show-only templates/rabbitmq/statefulset.yaml --show-only templates/rabbitmq/configmap.yaml |
            grep -v '^  replicas: ' > "$tools/pods-of-$nodes.yaml" || return
    done
    diff "$tools/pods-of-1.yaml" "$tools/pods-of-3.yaml"
}

# Whether the chart cannot be rendered without a cluster, and says what to set instead.
needs() {               # VALUE ARGUMENTS...
    local value=$1 said; shift
    if said=$(render_without_cluster "$@" 2>&1); then echo "it was rendered: $*"; return 1; fi
    grep -F -- "$value" <<< "$said" || { echo "$said"; return 1; }
}
# Whether the chart is the same each time it is rendered without a cluster.
is_stable() {           # ARGUMENTS...
    local first second
    first=$(render_without_cluster "$@") || return
    second=$(render_without_cluster "$@") || return
    diff <(echo "$first") <(echo "$second")
}
# Whether Argo CD's health check of rooms is right.
argo_cd_health() {
    awk 'in_it { print substr($0, 5) } /^  resource\.customizations\.health/ { in_it = 1 }' manifests/argo-cd/health.yaml > "$tools/health.lua"
    glua tests/chart/health.lua "$tools/health.lua"
}

# The value of a key of a Secret in a rendered file.
secret_value() {        # FILE SECRET KEY
    awk -v secret="$2" -v key="$3:" '/^---/ { in_it = 0 } $1 == "name:" { in_it = $2 == secret } in_it && $1 == key { print $2; exit }' "$1" | base64 -d
}
# Renders the chart as it is for a release whose StatefulSet of the broker has this serviceName and so many nodes.
render_over() {         # SERVICE_NAME REPLICAS ARGUMENTS...
    local over=$tools/over service=$1 nodes=$2; shift 2
    rm -rf "$over"
    cp -r "$tools/in-cluster" "$over"
    echo "{{- define \"papo.rabbitmq.stored\" -}}{spec: {serviceName: $service, replicas: $nodes}}{{- end }}" > "$over/templates/_stored.tpl"
    helm template papo "$over" --namespace papo-system "$@"
}
# Whether an upgrade of this StatefulSet works, or ends with a text.
upgrades() {            # SERVICE_NAME REPLICAS ARGUMENTS...
    render_over "$@" > /dev/null
}
upgrade_says() {        # TEXT SERVICE_NAME REPLICAS ARGUMENTS...
    local text=$1 said; shift
    if said=$(render_over "$@" 2>&1 > /dev/null); then echo "it was rendered: $*"; return 1; fi
    grep -F -- "$text" <<< "$said" || { echo "$said"; return 1; }
}
# Runs the broker's start.sh on a volume with this folder, and prints with which settings it starts RabbitMQ. SERVES names a peer that serves.
started_node() {        # HOST VOLUME ARGUMENTS...
    local host=$1 volume=$2 home status=0; shift 2
    home=$(mktemp -d)
    mkdir -p "$home/mnesia/$volume" "$home/bin" "$home/cookie"
    echo "echo $host" > "$home/bin/hostname"
    echo 'echo "CALLED $*"' > "$home/bin/rabbitmqctl"
    echo "grep -qF '/${SERVES:-nobody}.' <<< \"\$*\"" > "$home/bin/timeout"
    echo 'cat "$PAPO_HOME/rabbitmq-env.conf"; echo "SEED=${PAPO_SEED_NODE:-}"; cat "$PAPO_HOME/.erlang.cookie"; stat -c "MODE=%a" "$PAPO_HOME/.erlang.cookie"' > "$home/bin/docker-entrypoint.sh"
    chmod +x "$home"/bin/*
    echo '[rabbitmq_management,rabbitmq_prometheus].' > "$home/plugins"
    echo a-cookie > "$home/cookie/cookie"
    render --show-only templates/rabbitmq/configmap.yaml "$@" > "$home/map.yaml" || return
    awk '/^  [a-z0-9-]+\.(sh|conf): / { in_it = $1 == "start.sh:"; next } in_it { print substr($0, 5) }' "$home/map.yaml" |
        sed -e "s#/var/lib/rabbitmq#$home#" -e "s#/etc/rabbitmq/cookie#$home/cookie#g" -e "s#/etc/rabbitmq/enabled_plugins#$home/plugins#" > "$home/start.sh"
    PATH=$home/bin:$PATH PAPO_HOME=$home HOSTNAME=${host%%.*} bash "$home/start.sh" || status=$?
    [ ! -f "$home/enabled_plugins" ] || echo "PLUGINS=$(cat "$home/enabled_plugins")"
    rm -rf "$home"
    return $status
}
starts_as() {           # TEXT HOST VOLUME ARGUMENTS...: the node starts, and what it prints contains the text
    local text=$1 said; shift
    said=$(started_node "$@" 2>&1) || { echo "it did not start: $said"; return 1; }
    grep -qxF -- "$text" <<< "$said" || { echo "there is no '$text' in: $said"; return 1; }
}
starts_beside() {       # PEER TEXT HOST VOLUME ARGUMENTS...: as starts_as, while this peer serves
    local SERVES=$1; shift
    starts_as "$@"
}
starts_beside_without() {       # PEER TEXT HOST VOLUME ARGUMENTS...: the node starts while this peer serves, and prints no line that begins with the text
    local SERVES=$1 text=$2 said; shift 2
    said=$(started_node "$@" 2>&1) || { echo "it did not start: $said"; return 1; }
    ! grep -- "^$text" <<< "$said"
}
starts_saying() {       # TEXT HOST VOLUME ARGUMENTS...: as starts_as, with a part of a line
    local text=$1 said; shift
    said=$(started_node "$@" 2>&1) || { echo "it did not start: $said"; return 1; }
    grep -F -- "$text" <<< "$said" || { echo "there is no '$text' in: $said"; return 1; }
}

# The generated certificate is that of the broker's host, signed by the authority in the broker's Secret.
generated_certificate() {
    local made status=0
    made=$(mktemp -d)
    render --set rabbitmq.tls.enabled=true > "$made/all.yaml"
    secret_value "$made/all.yaml" papo-rabbitmq-default-user ca.crt > "$made/ca.crt"
    secret_value "$made/all.yaml" papo-rabbitmq-tls tls.crt > "$made/tls.crt"
    secret_value "$made/all.yaml" papo-rabbitmq-tls tls.key > "$made/tls.key"
    [ "$(secret_value "$made/all.yaml" papo-rabbitmq-default-user tls)" = true ] &&
        [ "$(secret_value "$made/all.yaml" papo-rabbitmq-default-user port)" = 5671 ] &&
        openssl verify -x509_strict -CAfile "$made/ca.crt" -verify_hostname papo-rabbitmq.papo-system.svc "$made/tls.crt" &&
        openssl verify -x509_strict -CAfile "$made/ca.crt" -verify_hostname papo-rabbitmq-2.papo-rabbitmq-nodes.papo-system.svc.cluster.local "$made/tls.crt" &&
        [ "$(openssl pkey -in "$made/tls.key" -pubout)" = "$(openssl x509 -in "$made/tls.crt" -noout -pubkey)" ] || status=1
    rm -r "$made"
    return $status
}

digest=sha256:$(printf '%064d' 1)
is "workspace and chart have one version" one_version
is "every value is documented" undocumented
accepts "the defaults"
accepts "everything on" -f tests/chart/everything.yaml
accepts "a broker of one's own" --set rabbitmq.enabled=false --set broker.existingSecret=mine
accepts "no broker: every room names its own" --set rabbitmq.enabled=false
accepts "no persistence" --set rabbitmq.persistence.enabled=false
accepts "two namespaces" --set 'watchNamespaces={a,b}'
accepts "no CRD" --set crds.install=false
accepts "no network policies" --set networkPolicy.enabled=false
accepts "no aggregated roles" --set rbac.aggregate=false
accepts "monitoring" --set serviceMonitor.enabled=true --set prometheusRule.enabled=true --set dashboard.enabled=true
accepts "a mirror" --set imageRegistry=mirror.example.com/x
accepts "a Secret of one's own" --set rabbitmq.existingSecret=mine
accepts "TLS with a generated certificate" --set rabbitmq.tls.enabled=true
accepts "TLS with a certificate of one's own" --set rabbitmq.tls.enabled=true --set rabbitmq.tls.existingSecret=mine --set-string 'rabbitmq.tls.ca=-----BEGIN CERTIFICATE-----'
accepts "three nodes" --set rabbitmq.replicas=3
accepts "three nodes with TLS" --set rabbitmq.replicas=3,rabbitmq.tls.enabled=true
accepts "three nodes with Secrets of one's own" --set rabbitmq.replicas=3,rabbitmq.existingSecret=mine,rabbitmq.erlangCookieSecret=cookie
accepts "nobody reads the metrics" --set-json 'networkPolicy.metricsFrom=[]'
accepts "open egress" --set operator.networkPolicy.egress.enabled=false --set server.networkPolicy.egress.enabled=false
accepts "closed egress" --set-json 'operator.networkPolicy.egress={"ports": [6443, 15672], "to": []}'
accepts "access" --set-json 'access={"guests": "None", "issuers": [{"issuer": "https://id.example", "audiences": ["papo"]}], "write": ["group:staff"]}'
accepts "an audience for each namespace" --set-json 'access={"issuers": [{"issuer": "https://id.example", "audiences": ["papo-{namespace}"]}], "signIn": {"clientId": "{namespace}:{name}"}}'
accepts "images by digest" --set operator.image.digest=$digest,server.image.digest=$digest,rabbitmq.image.digest=$digest
accepts "no operator" --set operator.replicas=0
accepts "finalizers that stay" --set operator.removeFinalizersOnUninstall=false
accepts "two operators" --set operator.replicas=2
accepts "a long name" --set fullnameOverride=a-name-that-has-exactly-forty-characters

is "short tolerations by default" own_tolerations 2
is "tolerations of another effect" own_tolerations 2 --set 'operator.tolerations[0].operator=Exists,operator.tolerations[0].effect=NoSchedule'
is "own tolerations of a lost node" own_tolerations 1 --set 'operator.tolerations[0].key=node.kubernetes.io/unreachable,operator.tolerations[0].operator=Exists'
is "tolerations of everything" own_tolerations 0 --set 'operator.tolerations[0].operator=Exists'

is "a digest replaces the operator's tag" renders "image: papo-operator@$digest" --set operator.image.digest=$digest,operator.image.tag=old
is "a digest replaces the servers' tag" renders "value: \"papo-server@$digest\"" --set server.image.digest=$digest,server.image.tag=old
is "a digest replaces the broker's tag" renders "image: mirror.example.com/rabbitmq@$digest" --set rabbitmq.image.digest=$digest,imageRegistry=mirror.example.com
is "no tag beside a digest" renders "! :old" --set operator.image.digest=$digest,operator.image.tag=old,server.image.digest=$digest,server.image.tag=old
is "no AMQP from everywhere" renders 'app.kubernetes.io/managed-by: papo-operator' --show-only templates/rabbitmq/networkpolicy.yaml
is "AMQP from the watched namespaces" renders 'operator: In, values: ["a","b"]' --show-only templates/rabbitmq/networkpolicy.yaml --set 'watchNamespaces={a,b}'
is "metrics of the operator for nobody" renders '! - {port: admin}' --show-only templates/networkpolicy.yaml --set-json 'networkPolicy.metricsFrom=[]'
is "metrics of the broker for nobody" renders '! - {port: prometheus}' --show-only templates/rabbitmq/networkpolicy.yaml --set-json 'networkPolicy.metricsFrom=[]'
is "no link-local addresses for the operator" renders '169.254.0.0/16' --show-only templates/networkpolicy.yaml
is "open egress of the operator" renders '! Egress' --show-only templates/networkpolicy.yaml --set operator.networkPolicy.egress.enabled=false
is "restricted egress of the servers" renders '! PAPO_OPERATOR_SERVER_OPEN_EGRESS'
is "open egress of the servers" renders PAPO_OPERATOR_SERVER_OPEN_EGRESS --set server.networkPolicy.egress.enabled=false
is "HSTS in seconds" renders 'PAPO_OPERATOR_SERVER_HSTS_MAX_AGE, value: "31536000"'
is "open rooms by default" renders '! PAPO_OPERATOR_SERVER_ACCESS'
is "default access as JSON" renders 'PAPO_OPERATOR_SERVER_ACCESS, value: "{\"guests\":\"Read\",\"write\":[\"subject:$$(X)\"]}"' --set-json 'access={"guests": "Read", "write": ["subject:$(X)"]}'
is "the operator may annotate pods" renders 'verbs: [list, patch]' --show-only templates/clusterrole.yaml
is "no TLS by default" renders '! 5671' --show-only templates/rabbitmq/configmap.yaml --show-only templates/rabbitmq/service.yaml --show-only templates/rabbitmq/statefulset.yaml
is "no plain AMQP with TLS" renders 'listeners.tcp = none' --set rabbitmq.tls.enabled=true
is "management for both families of addresses" renders 'management.tcp.ip = ::' --show-only templates/rabbitmq/configmap.yaml
is "management over TLS for both families of addresses" renders 'management.ssl.ip = ::' --set rabbitmq.tls.enabled=true
is "no plain listener beside that of TLS" renders '! management.tcp' --show-only templates/rabbitmq/configmap.yaml --set rabbitmq.tls.enabled=true
is "no plain management with TLS" renders '! management, ' --show-only templates/rabbitmq/service.yaml --set rabbitmq.tls.enabled=true
if command -v openssl > /dev/null; then is "generated certificate" generated_certificate; fi

is "one node by default" renders 'replicas: 1' --show-only templates/rabbitmq/statefulset.yaml
is "three nodes" renders 'replicas: 3' --show-only templates/rabbitmq/statefulset.yaml --set rabbitmq.replicas=3
is "servers know three nodes" renders 'nodes: cGFwby1yYWJiaXRtcS0w' --show-only templates/rabbitmq/secret.yaml --set rabbitmq.replicas=3,rabbitmq.password=x
is "servers know one address of one node" renders '! nodes:' --show-only templates/rabbitmq/secret.yaml --set rabbitmq.password=x
is "nodes start together" renders 'podManagementPolicy: Parallel' --show-only templates/rabbitmq/statefulset.yaml --set rabbitmq.replicas=3
is "nodes have names before they are ready" renders 'publishNotReadyAddresses: true' --show-only templates/rabbitmq/service.yaml --set rabbitmq.replicas=3
is "the pods of one node are those of three" same_pods
is "a node drains before it stops" renders 'rabbitmq-upgrade drain' --show-only templates/rabbitmq/configmap.yaml --set rabbitmq.replicas=3
is "a node that waits for its peers is alive" renders 'tcpSocket: {port: erlang}' --show-only templates/rabbitmq/statefulset.yaml --set rabbitmq.replicas=3
is "no restart of a node that takes long to start" renders '! startupProbe' --show-only templates/rabbitmq/statefulset.yaml --set rabbitmq.replicas=3
is "one node leaves at a time" renders 'maxUnavailable: 1' --show-only templates/rabbitmq/poddisruptionbudget.yaml --set rabbitmq.replicas=3
is "no budget for one node" not_rendered templates/rabbitmq/poddisruptionbudget.yaml
is "Erlang's ports between the nodes" renders '{port: epmd}' --show-only templates/rabbitmq/networkpolicy.yaml --set rabbitmq.replicas=3
is "the copies of streams between the nodes" renders '{port: 6000, endPort: 6500}' --show-only templates/rabbitmq/networkpolicy.yaml --set rabbitmq.replicas=3
is "Erlang's ports closed with one node" renders '! {port: erlang}' --show-only templates/rabbitmq/networkpolicy.yaml
is "the memory alarm knows the container's limit" renders 'total_memory_available_override_value = $(PAPO_MEMORY)' --show-only templates/rabbitmq/configmap.yaml
is "a cookie for later peers" renders 'name: papo-rabbitmq-erlang-cookie' --show-only templates/rabbitmq/cookie.yaml
is "the nodes take the Secret with the cookie" renders 'secretName: cookie' --show-only templates/rabbitmq/statefulset.yaml --set rabbitmq.replicas=3,rabbitmq.erlangCookieSecret=cookie
is "no cookie of the chart beside the Secret" renders '! kind: Secret' --set rabbitmq.replicas=3,rabbitmq.existingSecret=mine,rabbitmq.erlangCookieSecret=cookie

node0=papo-rabbitmq-0.papo-rabbitmq-nodes.papo-system.svc.invalid
node2=papo-rabbitmq-2.papo-rabbitmq-nodes.papo-system.svc.invalid
is "one node has the name of node 0 of three" starts_as "NODENAME=rabbit@$node0" $node0 .
is "node 0 of three" starts_as "NODENAME=rabbit@$node0" $node0 . --set rabbitmq.replicas=3
is "a node keeps its name" starts_as "NODENAME=rabbit@$node2" $node2 "rabbit@$node2" --set rabbitmq.replicas=3
is "long names" starts_as USE_LONGNAME=true $node0 . --set rabbitmq.replicas=3
is "nodes join node 0" starts_as "SEED=rabbit@$node0" $node2 . --set rabbitmq.replicas=3
is "node 0 is the seed without peers" starts_as "SEED=rabbit@$node0" $node0 . --set rabbitmq.replicas=3
is "node 0 joins a peer that serves" starts_beside papo-rabbitmq-2 "SEED=rabbit@$node2" $node0 . --set rabbitmq.replicas=3
is "peers forget a member without data" starts_beside papo-rabbitmq-0 "CALLED --node rabbit@$node0 --longnames --timeout 60 forget_cluster_node rabbit@$node2" $node2 . --set rabbitmq.replicas=3
is "peers do not forget a member with data" starts_beside_without papo-rabbitmq-0 CALLED $node2 "rabbit@$node2" --set rabbitmq.replicas=3
is "the cookie of the Secret" starts_as a-cookie $node0 .
is "a cookie file for the node alone" starts_as MODE=400 $node0 .
is "peer discovery beside the image's plugins" starts_as 'PLUGINS=[rabbitmq_management,rabbitmq_prometheus,rabbitmq_peer_discovery_k8s].' $node0 . --set rabbitmq.replicas=3
is "data of an older chart keeps its node's name" starts_as NODENAME=rabbit@localhost $node0 rabbit@localhost
is "a node without data says what it waits for" starts_saying "waits for rabbit@$node0" $node2 . --set rabbitmq.replicas=3

is "upgrade of one node" upgrades papo-rabbitmq-nodes 1
is "from one node to three" upgrades papo-rabbitmq-nodes 1 --set rabbitmq.replicas=3
is "three nodes stay" upgrades papo-rabbitmq-nodes 3 --set rabbitmq.replicas=3
is "not from three nodes to one" upgrade_says 'its cluster cannot become smaller' papo-rabbitmq-nodes 3
is "the StatefulSet of an older chart" upgrade_says '--cascade=orphan' papo-rabbitmq 1

is "no generated password without a cluster" needs rabbitmq.existingSecret
is "no generated certificate without a cluster" needs rabbitmq.tls.existingSecret --set rabbitmq.password=secret,rabbitmq.tls.enabled=true
is "no generated cookie without a cluster" needs rabbitmq.erlangCookieSecret --set rabbitmq.password=secret,rabbitmq.replicas=3
is "the same with three nodes and a cookie" is_stable --set rabbitmq.password=secret,rabbitmq.replicas=3,rabbitmq.erlangCookie=abcdefghijklmnopqrstuvwxyz
is "the same with three nodes and Secrets" is_stable --set rabbitmq.replicas=3,rabbitmq.existingSecret=mine,rabbitmq.erlangCookieSecret=cookie
is "the same with a password" is_stable --set rabbitmq.password=secret
is "the same with a Secret" is_stable --set rabbitmq.existingSecret=mine
is "the same with a broker of one's own" is_stable --set rabbitmq.enabled=false,broker.existingSecret=mine
is "no Secret of the chart beside an existing one" renders '! kind: Secret' --set rabbitmq.existingSecret=mine
is "the broker takes the existing Secret" renders 'secretKeyRef: {name: mine, key: password}' --set rabbitmq.existingSecret=mine
is "the operator takes the existing Secret" renders 'value: "papo-system/mine"' --set rabbitmq.existingSecret=mine
is "the operator may read the existing Secret" renders 'resourceNames: [mine]' --show-only templates/role.yaml --set rabbitmq.existingSecret=mine
is "the operator may write the list of leftovers" renders 'resourceNames: [papo-operator-leftovers]' --show-only templates/role.yaml
is "finalizers stay while the operator is installed" renders '--unless-deployment=papo-system/papo-operator'
is "the job of the finalizers may look for the operator" renders 'resourceNames: [papo-operator]' --show-only templates/remove-finalizers.yaml
if command -v glua > /dev/null; then is "Argo CD's health of rooms" argo_cd_health; fi

rejects "two nodes" --set rabbitmq.replicas=2
rejects "no nodes" --set rabbitmq.replicas=0
rejects "three nodes without volumes" --set rabbitmq.replicas=3,rabbitmq.persistence.enabled=false
rejects "three nodes with a Secret and without a cookie" --set rabbitmq.replicas=3,rabbitmq.existingSecret=mine
rejects "two cookies" --set rabbitmq.replicas=3,rabbitmq.erlangCookieSecret=cookie,rabbitmq.erlangCookie=abcdefghijklmnopqrstuvwxyz
rejects "a short cookie" --set rabbitmq.replicas=3,rabbitmq.erlangCookie=abc
rejects "a name for an address" --set rabbitmq.listenAddress=localhost
rejects "a password beside an existing Secret" --set rabbitmq.existingSecret=mine,rabbitmq.password=secret
rejects "an existing Secret without the authority of the certificate" --set rabbitmq.existingSecret=mine,rabbitmq.tls.enabled=true
rejects "a digest in the repository" --set operator.image.repository=papo-operator@$digest
rejects "a digest that is no digest" --set server.image.digest=sha256:1
rejects "TLS with a Secret that Helm cannot read" --set rabbitmq.tls.enabled=true --set rabbitmq.tls.existingSecret=mine
rejects "an authority that is no certificate" --set rabbitmq.tls.ca=mine
rejects "a peer of a misspelt kind" --set-json 'networkPolicy.metricsFrom=[{"podselector": {}}]'
rejects "a peer that is nobody" --set-json 'networkPolicy.metricsFrom=[{}]'
rejects "an egress rule that allows everything" --set-json 'server.networkPolicy.egress.rules=[{}]'
rejects "a port that is none" --set-json 'operator.networkPolicy.egress.ports=[0]'
rejects "HSTS for ever" --set server.hstsMaxAge=99999999999
rejects "a misspelt rule of access" --set access.guest=Read
rejects "guests that may do something else" --set access.guests=Moderate
rejects "a grant without a kind" --set 'access.write={staff}'
rejects "an issuer without audiences" --set-json 'access.issuers=[{"issuer": "https://id.example", "audiences": []}]'
rejects "an audience with another placeholder" --set-json 'access.issuers=[{"issuer": "https://id.example", "audiences": ["papo-{room}"]}]'
rejects "a client id with another placeholder" --set-json 'access.signIn={"clientId": "papo-{room}"}'
rejects "an issuer without TLS" --set-json 'access.issuers=[{"issuer": "http://id.example", "audiences": ["papo"]}]'
rejects "an issuer with two kinds of keys" --set-json 'access.issuers=[{"issuer": "https://id.example", "audiences": ["papo"], "keySecretName": "key", "jwksUri": "https://id.example/keys"}]'
rejects "a sender that is none" --set 'access.denied.senders={mallory}'
rejects "a broker host with a comma" --set-json 'operator.allowedBrokerHosts=["a,b"]'
rejects "an annotation key with a space" --set-json 'operator.allowedIngressAnnotations=["a b"]'
rejects "a priority class that is no name" --set-json 'operator.allowedPriorityClasses=["A"]'
rejects "a misspelt key" --set rabbitmq.enbled=false
rejects "a misspelt key at the top" --set opertor.replicas=1
rejects "text for a number" --set-string operator.replicas=one
rejects "two brokers at once" --set broker.existingSecret=mine
rejects "an invalid namespace" --set 'watchNamespaces={Not_One}'

[ -n "$schemas" ] || echo "chart: the rendered objects were not compared with Kubernetes' schemas, because fetching these needs Go"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
