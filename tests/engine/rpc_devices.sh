#!/usr/bin/env bash
# Two ggml-rpc-servers on this machine hold the model: the same tokens; one that dies ends the program with its own exit
# code. Usage: rpc_devices.sh HYPURA DEMO_FOLDER
set -euo pipefail
hypura=$1 model=$2/demo-moe.gguf
server=${HYPURA_RPC_SERVER:-$(compgen -G '/usr/libexec/*/llama/bin/ggml-rpc-server' | head -n 1)} || true
[[ -x $server ]] || { echo "llama.cpp-tools-extra is not installed"; exit 77; }

die() { echo "$*" >&2; exit 1; }
folder=$(mktemp -d)
servers=()
trap 'kill "${servers[@]}" 2>/dev/null || true; rm -rf "$folder"' EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
start_server() {
    "$server" -H 127.0.0.1 -p "$1" >"$folder/$1.log" 2>&1 &
    servers+=($!)
    disown
    for _ in {1..100}; do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.1
    done
    die "ggml-rpc-server did not start: $(cat "$folder/$1.log")"
}

port_a=$(free_port) port_b=$(free_port)
start_server "$port_a"
start_server "$port_b"
rpc=127.0.0.1:$port_a,127.0.0.1:$port_b
"$hypura" run --rpc "$rpc" --list-devices >"$folder/devices" 2>"$folder/error" || {
    grep -q libggml0-backend-rpc "$folder/error" && { cat "$folder/error"; exit 77; }
    die "$(cat "$folder/error")"
}
[[ $(awk '$2 == "remote"' "$folder/devices" | wc -l) -ge 2 ]] || die "two remote devices expected: $(cat "$folder/devices")"
mapfile -t names < <(awk '$2 == "remote" { print $1 }' "$folder/devices")
device=${names[0]},${names[1]}

ask() { "$hypura" run "$model" -p "What is hypura.cpp?" -n 60 --temp 0 -q --ctx 256 --batch 32 "$@"; }
here=$(ask --device none)
for mode in resident stream; do
    there=$(ask --rpc "$rpc" --device "$device" --vram 256MiB --mode "$mode" --stats "$folder/stats.json")
    [[ -n $there && $there == "$here" ]] || die "$mode: '$there' instead of '$here'"
    [[ $(grep -c "RPC" "$folder/stats.json") -ge 2 ]] || die "$mode: the servers were not used"
done

# Measured once, a server counts in plans that name it, with the way to it, and in predictions of runs.
export XDG_CACHE_HOME=$folder
of_json() { python3 -c "import json, sys; value = json.load(sys.stdin); sys.exit(not ($1))"; }
"$hypura" profile "$folder" --rpc "127.0.0.1:$port_a" --json >"$folder/profile.json"
of_json '[d["trip_us"] > 0 and d["upload_bytes_per_second"] > 0 and len(d["matmul"]) > 0 for d in value["devices"]
    if d["kind"] == "remote"] == [True]' <"$folder/profile.json" || die "the server was not measured"
"$hypura" plan "$model" --rpc "127.0.0.1:$port_a" --vram 256MiB --json >"$folder/plan.json"
of_json 'value["plan"]["device"]["mode"] == "resident" and
    value["plan"]["device"]["prediction"]["decode_tokens_per_second"] > 0' <"$folder/plan.json" ||
    die "the server is not in the plan: $(cat "$folder/plan.json")"
"$hypura" plan "$model" --json | of_json 'value["plan"]["device"] is None' || die "a server that nobody named is in the plan"
! "$hypura" plan "$model" --rpc "127.0.0.1:$port_b" 2>"$folder/error" || die "a server that was not measured is in the plan"
grep -q "profile --rpc 127.0.0.1:$port_b" "$folder/error" || die "no word of how to measure it: $(cat "$folder/error")"
ask --rpc "127.0.0.1:$port_a" --vram 256MiB --stats "$folder/stats.json" >"$folder/out"
of_json 'value["predicted_tokens_per_second"] > 0 and "fits RPC0" in value["reason"]' <"$folder/stats.json" ||
    die "no prediction: $(cat "$folder/stats.json")"

# A part of a mixture goes there with its experts: whole layers, of which nothing is asked of the slots here.
"$hypura" make-model "$folder/layers.gguf" --arch qwen3moe --layers 8 --experts 32 --top-k 2 --embd 256 --ff 256 \
    --heads 4 --kv-heads 2 --head-dim 64 --vocab 512 --quant f16 >/dev/null
part() {
    "$hypura" run "$folder/layers.gguf" --raw -p "abc" -n 20 --temp 0 -q --ctx 512 --batch 32 --mode stream \
        --stats "$folder/stats.json" "$@"
}
[[ $(part --rpc "127.0.0.1:$port_a" --vram 60MiB) == "$(part --device none)" ]] || die "another answer with layers elsewhere"
part --rpc "127.0.0.1:$port_a" --vram 60MiB >/dev/null
of_json '0 < value["devices"]["gpu_layers"] < 9 and value["devices"]["slot_bytes"] == 0 and
    value["devices"]["weight_bytes"] > 20 << 20' <"$folder/stats.json" || die "whole layers: $(cat "$folder/stats.json")"
unset XDG_CACHE_HOME

# Killed between two answers of one chat: the second question finds the server gone.
mkfifo "$folder/in"
"$hypura" run "$model" -i --temp 0 -q --ctx 256 --batch 32 --rpc "$rpc" --device "$device" --vram 256MiB --mode resident \
    <"$folder/in" >"$folder/out" 2>"$folder/error" &
program=$!
exec 4>"$folder/in"
echo "What is hypura.cpp?" >&4
for _ in {1..300}; do [[ $(wc -c <"$folder/out") -gt 100 ]] && break; sleep 0.1; done
sleep 1
kill -KILL "${servers[1]}"
echo "Why does mmap thrash?" >&4 || true
exec 4>&-
status=0
wait "$program" || status=$?
[[ $status == 16 ]] || die "exit status $status instead of 16: $(cat "$folder/error")"
grep -q "remote device is gone" "$folder/error" || die "no word of what happened: $(cat "$folder/error")"
