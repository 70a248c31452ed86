#!/usr/bin/env bash
# Every architecture that llama.cpp's own tests can build, streamed at the smallest pool, bit for bit; then quantised
# copies of some. Usage: verify_archs.sh HYPURA [--table FILE]
set -euo pipefail
hypura=$1 table=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
least_models=131 least_quantised=30

generator=$(compgen -G '/usr/libexec/*/llama.cpp-tests/test-llama-archs' | head -n 1) ||
    { echo "llama.cpp-tests is not installed"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder"/{plain,odd,quantised} "$folder"/reports/{plain,quantised}

# Prints the names of the models of kind $1 that streaming computes as plain libllama does.
verify_folder() {
    local reports=$folder/reports/$1
    # shellcheck disable=SC2016  # for the inner shell
    find "$folder/$1" -name '*.gguf' -print0 | xargs -0 -P 2 -I{} bash -c '
        report=$2/$(basename "$3" .gguf).json
        "$1" verify "$3" --threads 1 --json >"$report" 2>"$report.log" && echo "$(basename "$3")" || {
            echo "FAILED: $3" >&2
            tail -n 3 "$report.log" >&2
        }' _ "$hypura" "$reports" {} || true
}

# quantise KIND/MODEL FORMAT
quantise() {
    local source target
    source=$folder/$1.gguf target=$folder/quantised/${1#*/}-$2.gguf
    [[ -f $source ]] || return 0
    llama-quantize --allow-requantize "$source" "$target" "$2" >/dev/null 2>&1 || rm -f "$target"
}

# verify_all KIND LEAST: all of them, and at least LEAST, are identical, and slots were evicted.
verify_all() {
    local models identical
    models=$(find "$folder/$1" -name '*.gguf' | wc -l)
    identical=$(verify_folder "$1" | wc -l)
    echo "$identical of $models $1 models are identical"
    ((identical == models && models >= $2)) || { echo "expected all, and at least $2" >&2; exit 1; }
    python3 "$here/archs_check.py" "$folder/reports/$1"
}

# A mixture whose slices are no multiples of a disk's sectors, however they are quantised: 160 x 96 elements.
make_odd() {
    "$hypura" make-model "$folder/odd/$1-odd.gguf" --arch "$1" --quant f16 --layers 2 --experts 8 --top-k 2 --embd 160 \
        --ff 96 --heads 5 --kv-heads 1 --head-dim 32 --vocab 512 >/dev/null
}

# Bytes of one expert's matrix: 2 layers of 8 experts, with 3 matrices each.
slice_bytes() {
    "$hypura" inspect "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["roles"]["experts"]["bytes"] // 48)'
}

"$generator" -o "$folder/plain" >/dev/null 2>&1 || true
verify_all plain $least_models
if [[ -n $table ]]; then python3 "$here/archs_table.py" "$folder/reports/plain" >"$table"; fi

command -v llama-quantize >/dev/null || exit 0
for model in llama-moe llama-dense qwen2moe-moe qwen3moe-moe deepseek2-moe glm4moe-moe olmoe-moe dbrx-moe \
    gpt-oss-moe gemma3-dense qwen3-dense phi3-dense; do
    for format in Q4_K Q8_0 MXFP4_MOE; do quantise "plain/$model" "$format"; done
done
for model in qwen3moe gpt-oss; do
    make_odd "$model"
    for format in Q4_0 Q8_0 MXFP4_MOE; do quantise "odd/$model-odd" "$format"; done
done
for format in Q4_0 Q8_0 MXFP4_MOE; do
    bytes=$(slice_bytes "$folder/quantised/qwen3moe-odd-$format.gguf")
    ((bytes % 512 != 0)) || { echo "the slices of $format have $bytes bytes: nothing odd is tested" >&2; exit 1; }
done
verify_all quantised $least_quantised
