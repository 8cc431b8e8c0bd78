#!/usr/bin/env bash
# Instructions that a layer adds to a request, counted by callgrind: (I(24,000 requests) - I(4,000)) / 20,000, so
# that what happens once does not count. Deterministic to a few instructions on the thread of the requests. The tasks
# that drain and aggregate run on another thread and share their work among the requests that came together, here
# 2,000; they are counted beside it. Needs valgrind; takes half a minute.
#
#   benches/instructions.sh [LAYER…]      bare noop recorded attributed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# -gt 0 ] || set -- bare noop recorded attributed
for layer in "$@"; do
    case $layer in
    -h | --help) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit ;;
    bare | noop | recorded | attributed) ;;
    *) echo "usage: benches/instructions.sh [LAYER…], layers are bare, noop, recorded and attributed; not $layer" >&2; exit 2 ;;
    esac
done

command -v valgrind >/dev/null || { echo "this needs valgrind" >&2; exit 1; }
# What the compiler says is for people, and goes to stderr; the messages on stdout say where the program is.
messages=$(cargo bench --bench overhead --no-run --message-format=json-render-diagnostics) || exit
program=$(sed -n 's/.*"name":"overhead".*"executable":"\([^"]*\)".*/\1/p' <<<"$messages")
[ -x "$program" ] || { echo "cargo did not say where the bench \"overhead\" is" >&2; exit 1; }

counts=$(mktemp -d)
trap 'rm -rf "$counts"' EXIT

# The sum of each thread's instructions: the requests' own, and the tasks'.
instructions() {
    valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file="$counts/$1.$2" \
        "$program" "$1" "$2" >"$counts/said" 2>&1 || { cat "$counts/said" >&2; return 1; }
    awk '/^thread:/ {thread = $2} /^totals:/ {if (thread == 1) requests += $2; else tasks += $2}
        END {print requests + 0, tasks + 0}' "$counts/$1.$2"-*
}

printf '%-12s %22s %8s %22s\n' layer "instructions a request" added "added by the tasks"
base=
for layer in "$@"; do
    sums=$(instructions "$layer" 4000)
    read -r few few_tasks <<<"$sums"
    sums=$(instructions "$layer" 24000)
    read -r many many_tasks <<<"$sums"
    each=$(((many - few) / 20000))
    tasks=$(((many_tasks - few_tasks) / 20000))
    base=${base:-$each}
    printf '%-12s %22d %8d %22d\n' "$layer" "$each" "$((each - base))" "$tasks"
done
