#!/usr/bin/env bash
# Instructions that a layer adds to a request, counted by callgrind: (I(24,000 requests) - I(4,000)) / 20,000, so
# that what happens once does not count. Deterministic to a few instructions on the thread of the requests. The tasks
# that drain and aggregate run on another thread and share their work among the requests that came together, here
# 2,000; they are counted beside it. Needs valgrind; takes half a minute.
#
#   benches/instructions.sh [LAYER…]      bare noop recorded attributed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v valgrind >/dev/null || { echo "this needs valgrind" >&2; exit 1; }
program=$(cargo bench --bench overhead --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"overhead".*"executable":"\([^"]*\)".*/\1/p')
[ -x "$program" ] || { echo "the bench \"overhead\" does not build" >&2; exit 1; }

counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT

# The sum of each thread's instructions: the requests' own, and the tasks'.
instructions() {
    valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file="$counts/$1.$2" \
        "$program" "$1" "$2" >/dev/null 2>&1
    awk '/^thread:/ {thread = $2} /^totals:/ {if (thread == 1) requests += $2; else tasks += $2}
        END {print requests + 0, tasks + 0}' "$counts/$1.$2"-*
}

[ $# -gt 0 ] || set -- bare noop recorded attributed
printf '%-12s %22s %8s %22s\n' layer "instructions a request" added "added by the tasks"
base=
for layer in "$@"; do
    read -r few few_tasks < <(instructions "$layer" 4000)
    read -r many many_tasks < <(instructions "$layer" 24000)
    each=$(((many - few) / 20000))
    tasks=$(((many_tasks - few_tasks) / 20000))
    base=${base:-$each}
    printf '%-12s %22d %8d %22d\n' "$layer" "$each" "$((each - base))" "$tasks"
done
