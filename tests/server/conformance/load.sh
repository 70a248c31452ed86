#!/usr/bin/env bash
# One client and eight, hypura and llama-server, under one limit of memory, in one sitting. As root (cgroup v1 or v2).
# Usage: load.sh HYPURA MODEL LIMIT_GIB TOKENS [hypura|llama-server ...]
set -euo pipefail
hypura=$1 model=$2 limit_gib=$3 tokens=$4
shift 4
servers=("${@:-hypura}")
folder=$(cd "$(dirname "$0")" && pwd)
port=$((21500 + RANDOM % 4000))
log=$(mktemp)

v2=/sys/fs/cgroup/cgroup.controllers
group=/sys/fs/cgroup/$([[ -e $v2 ]] || echo memory/)hypura-load-$$
limit_file=$([[ -e $v2 ]] && echo memory.max || echo memory.limit_in_bytes)
mkdir "$group"
echo $((limit_gib << 30)) >"$group/$limit_file"
server=
clean() {
    if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
    rmdir "$group" 2>/dev/null || true
}
trap clean EXIT

is_ready() {
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 1
    printf 'GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    local line
    read -r line <&3
    exec 3>&-
    [[ $line == *" 200 "* ]]
}

start() {
    # What others left in the page cache is charged to nobody's limit, and would serve a server that maps the model.
    dd of="$model" oflag=nocache conv=notrunc,fdatasync count=0 status=none
    (echo $BASHPID >"$group/cgroup.procs"; exec "$@" >"$log" 2>&1) &
    server=$!
    for ((i = 0; i < 600; ++i)); do
        ! is_ready || return 0
        kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 1; }
        sleep 0.2
    done
}

for kind in "${servers[@]}"; do
    port=$((port + 1))
    echo "$kind, $(basename "$model"), ${limit_gib} GiB"
    if [[ $kind == hypura ]]; then
        start "$hypura" serve "$model" --host "127.0.0.1:$port" --ctx 1024
    else
        start llama-server -m "$model" --host 127.0.0.1 --port "$port" -c 1024 -np 8 -t "$(nproc)" --no-repack
    fi
    name=$(basename "$model" .gguf)
    node "$folder/load.mjs" "http://127.0.0.1:$port" "$name" 1 4 >/dev/null  # loads, warms up
    for run in ${RUNS:-1:own 8:own}; do
        node "$folder/load.mjs" "http://127.0.0.1:$port" "$name" "${run%%:*}" "$tokens" "${run##*:}"
    done
    kill "$server"; wait "$server" 2>/dev/null || true
    server=
done
