# What the tests need on a Debian machine with Rust, and how the suites that are not cargo's are started. Sourced.

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
has() { command -v "$1" > /dev/null; }

# Installs what is missing, in one go and only then.
set_up() {
    local packages=()
    has chromium || packages+=(chromium fonts-noto-color-emoji)
    has node || packages+=(nodejs)
    has npm || packages+=(npm)
    has curl || packages+=(curl)
    has make && has cc || packages+=(build-essential)
    has cmake || packages+=(cmake)
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)
    if [ ${#packages[@]} != 0 ]; then
        echo "installing ${packages[*]}"
        as_root apt-get update -qq && as_root apt-get install -yqq --no-install-recommends "${packages[@]}" || return
    fi
    # Older Debians have an older Node than the suites need; npm has newer ones.
    node_is_new_enough || npm install --silent --no-audit --no-fund --prefix "$PAPO_TOOLS/node" node@20
}
node_is_new_enough() { node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'; }

# Prints the variables that lead to it.
start_rabbitmq() { tests/rabbitmq/rabbitmq start; }

# A suite in a folder of its own: its `run`, or what npm calls its test.
run_in() { # DIR
    cd "$1" || return
    if [ -x run ]; then
        ./run
        return
    fi
    local install=(install --no-package-lock)
    [ ! -e package-lock.json ] || install=(ci)
    npm "${install[@]}" --no-audit --no-fund --silent && npm --silent test
}

# Are the generated files what their generators write? The chart suite has built helm if that could be done.
check_generated() {
    if ! has helm; then
        echo "helm is not there, and neither is Go to build it with"
        echo "0 passed, 0 failed, 1 skipped"
    elif manifests/generate.sh --check; then
        echo "1 passed, 0 failed"
    else
        echo "0 passed, 1 failed"
    fi
}
