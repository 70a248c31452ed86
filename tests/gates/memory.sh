#!/usr/bin/env bash
# A run of 500 tokens inside a hard memory limit of --ram plus 256 MiB: not killed, no major faults once warm.
#   memory.sh HYPURA [RAM_MIB]
# Makes a model of about 2 GB, twice what it may hold. Needs root and a cgroup to write to; exit status 77: neither.
set -euo pipefail

hypura=$1
ram_mib=${2:-1024}
limit_bytes=$(((ram_mib + 256) * 1024 * 1024))
work=$(mktemp -d)
group=

make_group() {
    local base
    for base in /sys/fs/cgroup/memory /sys/fs/cgroup; do
        group=$base/hypura-gate-$$
        mkdir "$group" 2>/dev/null || continue
        if echo "$limit_bytes" >"$group/memory.limit_in_bytes" 2>/dev/null ||
            echo "$limit_bytes" >"$group/memory.max" 2>/dev/null; then
            return 0
        fi
        rmdir "$group"
    done
    group=
    return 1
}

cleanup() {
    rm -rf "$work"
    [ -z "$group" ] || rmdir "$group" 2>/dev/null || true
}
trap cleanup EXIT

make_group || { echo "no cgroup with a memory limit can be made here" >&2; exit 77; }
"$hypura" make-model "$work/model.gguf" --like lab-moe-8g --scale 0.25 >/dev/null
(
    echo "$BASHPID" >"$group/cgroup.procs"
    exec "$hypura" bench "$work/model.gguf" --ram "${ram_mib}MiB" --mode stream --ctx 1024 --child decode:64:50:500
) >"$work/bench.json"

python3 - "$work/bench.json" <<'PY'
import json
import sys

decode = json.load(open(sys.argv[1]))["measured"]
print("decode: %d tokens, %d major faults, %.1f minor faults a token"
      % (decode["tokens"], decode["major_faults"], decode["minor_faults"] / decode["tokens"]))
sys.exit(0 if decode["tokens"] == 500 and decode["major_faults"] == 0 else 1)
PY
