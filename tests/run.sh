#!/usr/bin/env bash
# Everything that has to hold: format, lints for every feature, tests with and without features, strangers' clients,
# the page in a browser, the documentation, the package.
#
#   tests/run.sh            all of it
#   tests/run.sh STEP…      only these: format lints tests proofs loom clients browser docs package
#
# Missing tools are installed where that is possible: system packages through apt-get (as root, or with a sudo that
# does not ask), packages of npm and PyPI into the target directory. Nothing is written beside the sources.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
# Where cargo tells integration tests to keep files: they look for the tools there.
tools=$target/tmp/tools
log=$target/tmp/run.log
mkdir -p "$tools"
: >"$log"

step=start
started=$SECONDS
finish() {
    local code=$?
    local passed failed
    passed=$(awk '/^test result:|^# pass /{for (i = 1; i < NF; i++) if ($(i + 1) ~ /^passed/) sum += $i; if ($2 == "pass") sum += $3} END {print sum + 0}' "$log")
    failed=$(awk '/^test result:|^# fail /{for (i = 1; i < NF; i++) if ($(i + 1) ~ /^failed/) sum += $i; if ($2 == "fail") sum += $3} END {print sum + 0}' "$log")
    local took=$((SECONDS - started))
    if [ "$code" -eq 0 ]; then
        echo "== all green in ${took} s: $passed passed, $failed failed"
    else
        echo "== FAILED at \"$step\" after ${took} s: $passed passed, $failed failed"
    fi
}
trap finish EXIT

section() {
    step=$1
    echo "== $step ($((SECONDS - started)) s)"
}

# limited SECONDS COMMAND…: no step waits for ever for something that never comes. The limits are several times what a
# busy machine of two cores takes.
limited() {
    local limit=$1 code=0
    shift
    timeout --kill-after=10 "$limit" "$@" || code=$?
    if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
        echo "step \"$step\" was stopped after its limit of $limit s: $*"
    elif [ "$code" -ge 128 ]; then
        echo "step \"$step\" was ended by signal $((code - 128)): $*"
    fi
    return "$code"
}

# counted SECONDS COMMAND…: the same with a command whose test counts belong to the closing line.
counted() {
    limited "$@" 2>&1 | tee -a "$log"
}

# need COMMAND PACKAGE REASON
need() {
    if command -v "$1" >/dev/null 2>&1; then
        return
    fi
    echo "$1 is missing ($3): installing the package $2"
    install_package "$2"
}

install_package() {
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "this needs root: run \`apt-get install $1\` (or what your system calls it) and start again" >&2
            exit 1
        fi
        as_root=(sudo -n)
    fi
    if [ -z "${packages_updated:-}" ]; then
        "${as_root[@]}" apt-get update -qq
        packages_updated=yes
    fi
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$1"
}

format() {
    section "format"
    cargo fmt --all --check
}

lints() {
    local feature
    local features
    features=$(cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys
features = json.load(sys.stdin)["packages"][0]["features"]
print(*sorted(name for name in features if name not in ("default", "full")))')
    section "lints: no features"
    lint --no-default-features
    section "lints: default features"
    lint
    for feature in $features; do
        section "lints: only $feature"
        lint --no-default-features --features "$feature"
    done
    section "lints: all features"
    lint --all-features
}

lint() {
    limited 1200 cargo clippy --locked --quiet --all-targets "$@" -- -D warnings
}

tests() {
    section "tests: all features"
    limited 1800 cargo test --locked --quiet --all-features --no-run
    counted 900 cargo test --locked --quiet --all-features
    section "tests: no features"
    limited 1800 cargo test --locked --quiet --no-default-features --no-run
    counted 900 cargo test --locked --quiet --no-default-features
}

# What takes longer: a million steps of random schedules, full tables of the default size, half a minute of stress and of
# churn, a minute of two producers. TOWER_REALTIME_STEPS and _SECONDS make it longer. The seed is the same each time, so that
# a red run is the work of the change at hand; another TOWER_REALTIME_SEED looks further.
#
# The properties that proptest checks (windows, histograms, codecs) draw anew each time. A failing case is printed as the
# smallest that still fails, and its seed is written into proptest-regressions/ and tried first from then on (but for tests/fuzz.rs).
# PROPTEST_RNG_SEED=n repeats a whole run, PROPTEST_CASES=n makes it longer.
proofs() {
    section "proofs"
    export TOWER_REALTIME_SEED=${TOWER_REALTIME_SEED:-1}
    echo "TOWER_REALTIME_SEED=$TOWER_REALTIME_SEED"
    limited 1800 cargo test --locked --quiet --all-features --tests --no-run
    # In two minutes at most, where no more are asked for.
    TOWER_REALTIME_STEPS=${TOWER_REALTIME_STEPS:-1000000} \
        counted $((${TOWER_REALTIME_STEPS:-1000000} * 120 / 1000000 + 1)) \
        cargo test --locked --quiet --all-features --lib hub::properties
    # One after the other: they measure the whole process.
    counted $((900 + 4 * ${TOWER_REALTIME_SECONDS:-60})) \
        cargo test --locked --quiet --all-features --tests -- --ignored --nocapture --test-threads=1 proof_
}

# Every order in which the threads of the collector and the hub can meet. In a target directory of its own: all that
# depends on `--cfg loom` is built anew. A model that fails while it still holds a subscription can't unwind and ends the
# process: those behind it are not run, and there is no summary.
loom() {
    section "loom"
    local models=(cargo test --locked --quiet --release --no-default-features --lib --target-dir "$target/loom")
    RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" limited 1800 "${models[@]}" --no-run
    if ! RUSTFLAGS="${RUSTFLAGS:-} --cfg loom" counted 900 "${models[@]}" loom; then
        echo "a model failed; where there is no \"test result\" above, it ended the process (SIGABRT), and those behind it did not run:"
        echo "the last message names the model's thread, and \`${models[*]} loom_NAME\` with RUSTFLAGS=\"--cfg loom\" runs one alone"
        return 1
    fi
}

# The printed clients of strangers, against a real gateway.
clients() {
    section "clients: tools"
    need python3 python3 "the Python client, and to read cargo's metadata"
    need node nodejs "the npm client eventsource, and the browser tests"
    need npm npm "to fetch the package eventsource"
    need go golang-go "the Go client, whose bufio.Scanner ends at a line of 64 KiB"
    need curl curl "the printed curl lines"
    need nginx nginx "streams behind a real proxy; it is started by the test, not by the system"
    need openssl openssl "a certificate for that proxy"
    if ! [ -x "$tools/venv/bin/python" ] || ! "$tools/venv/bin/python" -c 'import requests, sseclient, websockets' 2>/dev/null; then
        echo "sseclient-py, requests and websockets are missing (the Python clients): installing them into $tools/venv"
        python3 -c 'import ensurepip, venv' 2>/dev/null || install_package python3-venv
        python3 -m venv "$tools/venv"
        "$tools/venv/bin/python" -m pip install --quiet 'sseclient-py==1.8.0' 'requests>=2,<3' 'websockets>=15,<17'
    fi
    node_packages
    GO111MODULE=off GOCACHE="$tools/go-cache" GOFLAGS= go build -o "$tools/scanner" tests/clients/scanner.go

    section "clients: tests that need them"
    limited 1200 cargo build --locked --quiet --all-features --example gateway
    counted 900 cargo test --locked --quiet --all-features --tests -- --ignored --skip proof_
}

# The page: its modules in Node.js, the whole of it in a real Chromium.
browser() {
    section "browser"
    need node nodejs "the page's tests"
    need npm npm "to fetch the package playwright-core"
    need chromium chromium "the page is tested in a real browser"
    node_packages
    cargo build --locked --quiet --all-features --example gateway
    GATEWAY="$target/debug/examples/gateway" NODE_TOOLS="$tools" \
        counted 900 node --test --test-reporter=tap tests/browser/*.test.mjs
}

node_packages() {
    local packages=(eventsource@3 playwright-core@1.65.1 ws@8)
    local package
    for package in "${packages[@]}"; do
        if ! [ -d "$tools/node_modules/${package%@*}" ]; then
            echo "$package is missing (the npm clients, the browser's driver): installing it into $tools"
            npm install --prefix "$tools" --no-audit --no-fund --loglevel=error "${packages[@]}"
        fi
    done
}

docs() {
    section "documentation"
    RUSTDOCFLAGS="-D warnings" limited 1200 cargo doc --locked --quiet --no-deps --all-features
}

package() {
    section "package"
    local dirty=()
    if [ -n "$(git status --porcelain 2>/dev/null)" ]; then
        echo "the tree has changes that are not committed: packaging it as it is"
        dirty=(--allow-dirty)
    fi
    limited 1800 cargo package --locked --quiet "${dirty[@]}"
}

if [ $# -eq 0 ]; then
    set -- format lints tests proofs loom clients browser docs package
fi
need python3 python3 "to read cargo's metadata"
for name in "$@"; do
    case $name in
    format | lints | tests | proofs | loom | clients | browser | docs | package) "$name" ;;
    *)
        echo "unknown step $name: format lints tests proofs loom clients browser docs package" >&2
        exit 2
        ;;
    esac
done
