#!/bin/sh
# Trains on disks that are too small: one of 4 KiB, of 8, … of 200, so that another write is the first to find no room
# each time. A run may fail, but must say why; every checkpoint that is there must be sound; and with more room the run
# must go on to the bits of one that always had it.
#
#     Tests/full-disk.sh FOVEA        from the root of the project, where the shipped digits are
#
# The disks are file systems in memory. To mount one takes root, or a system that lets anybody be root in a namespace of
# their own.
set -eu

fovea=$(realpath "$1")
if [ "$(id -u)" -ne 0 ]; then
    exec unshare --user --map-root-user --mount "$0" "$fovea"
fi

work=$(mktemp -d)
disk=$work/disk
mkdir "$disk"
trap 'umount "$disk" 2>/dev/null || :; rm -rf "$work"' EXIT

train() {
    "$fovea" train Tests/toy.yaml --set training.steps=20 --set training.logEvery=5 --set training.checkpointEvery=5 \
        --set training.keepCheckpoints=3 --threads 1 --output "$@" >"$work/output" 2>"$work/errors"
}

complain() {
    echo "full-disk: $size KiB: $1" >&2
    cat "$work/errors" >&2
    failed=1
}

size=0 failed=0 full=0 checkpoints=0
train "$work/straight" || { cat "$work/errors" >&2; exit 1; }

while [ "$size" -lt 200 ]; do
    size=$((size + 4))
    mount -t tmpfs -o "size=${size}k" tmpfs "$disk"
    code=0
    train "$disk/run" || code=$?
    case $code in
        0) ;;
        1) full=$((full + 1)); grep -q 'No space left on device' "$work/errors" || complain 'does not say why' ;;
        *) complain "ends with $code" ;;
    esac
    for checkpoint in "$disk"/run/checkpoints/step-*; do
        [ -d "$checkpoint" ] || continue
        checkpoints=$((checkpoints + 1))
        "$fovea" evaluate "$checkpoint" --split test >"$work/output" 2>"$work/errors" || complain "$checkpoint is damaged"
    done
    mount -o remount,size=8m "$disk"
    again=--overwrite
    [ -d "$disk/run" ] && again=--resume
    train "$disk/run" $again || complain 'does not go on'
    cmp -s "$disk/run/model.safetensors" "$work/straight/model.safetensors" || complain 'ends in other bits'
    umount "$disk"
done

echo "full-disk: $full of 50 runs found the disk full; $checkpoints checkpoints were there, and sound"
exit "$failed"
