#!/bin/sh
# Trains a toy for 100,000 steps and looks at the memory that the process holds as it goes: it must not grow after the
# first tenth.
#
#     Tests/flat-memory.sh FOVEA        from the root of the project, where the shipped digits are
set -eu

steps=${STEPS:-100000}
# What may come and go with buffers of the C library.
allowed_kib=1024

work=$(mktemp -d)
"$1" train Tests/toy.yaml --set "training.steps=$steps" --set "training.logEvery=$((steps / 100))" \
    --set "training.checkpointEvery=$((steps / 20))" --threads 1 --output "$work/run" >"$work/output" 2>&1 &
run=$!
trap 'kill "$run" 2>/dev/null || :; rm -rf "$work"' EXIT

tenth=1 first=0 most=0
while kill -0 "$run" 2>/dev/null; do
    lines=$(cat "$work/run/metrics.jsonl" 2>/dev/null | wc -l)
    if [ "$lines" -ge $((tenth * 10)) ]; then
        held=$(awk '/^VmRSS/ { print $2 }' "/proc/$run/status" 2>/dev/null || echo)
        [ -n "$held" ] || break
        echo "flat-memory: $((lines * steps / 100)) steps, $held KiB"
        [ "$tenth" -gt 1 ] || first=$held
        # With the last step the run is judged on the test part, which takes memory of its own.
        [ "$lines" -ge 100 ] || [ "$held" -le "$most" ] || most=$held
        tenth=$((lines / 10 + 1))
    fi
    sleep 0.2
done
wait "$run" || { cat "$work/output" >&2; exit 1; }

[ "$most" -gt 0 ] && [ "$most" -le $((first + allowed_kib)) ] || {
    echo "flat-memory: from $first KiB it grew to $most KiB" >&2
    exit 1
}
