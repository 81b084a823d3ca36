#!/bin/bash
# Builds the documentation as a site and checks it: links and anchors work, every flag, metric, field and file that a page names
# exists, and the workflows in .github are valid. The last line counts the checks.
#
#   docs/check.sh               checks everything
#   docs/check.sh --build       only builds the site (make docs)
#
#   PAPO_TOOLS=DIR              where mdBook and actionlint are kept
#   PAPO_SERVER, PAPO_OPERATOR  programs to compare with; built if not given
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${PAPO_TOOLS:-$HOME/.cache/papo/tools}
target=${CARGO_TARGET_DIR:-$PWD/target}
site=$target/docs
export PATH=$PATH:$tools/bin

mdbook=$(command -v mdbook || true)
if [ -z "$mdbook" ]; then
    mdbook=$tools/docs/bin/mdbook
    if [ ! -x "$mdbook" ] || ! cmp -s docs/requirements.txt "$tools/docs/requirements.txt"; then
        python3 -m venv "$tools/docs"
        "$tools/docs/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r docs/requirements.txt
        cp docs/requirements.txt "$tools/docs/requirements.txt"
    fi
fi

rm -rf "$site"
"$mdbook" build --dest-dir "$site" docs
rm -f "$site"/{check.sh,check.py,requirements.txt,book.toml}
if [ "${1:-}" = --build ]; then
    echo "open $site/index.html"
    exit
fi

# Go is optional: without it the workflows are not checked, and the last line counts this check as skipped.
actionlint=$(command -v actionlint || true)
if [ -z "$actionlint" ] && command -v go > /dev/null; then
    GOBIN=$tools/bin CGO_ENABLED=0 go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
    actionlint=$tools/bin/actionlint
fi

if [ -z "${PAPO_SERVER:-}" ] || [ -z "${PAPO_OPERATOR:-}" ]; then
    cargo build --quiet --locked -p papo-server -p papo-operator
fi
exec python3 docs/check.py --site "$site" --actionlint "$actionlint" \
    --server "${PAPO_SERVER:-$target/debug/papo-server}" --operator "${PAPO_OPERATOR:-$target/debug/papo-operator}"
