#!/usr/bin/env bash
# Every architecture that llama.cpp's own tests can build, streamed at the smallest pool, bit for bit; then quantised
# copies of some. Usage: verify_archs.sh HYPURA [--table FILE]
set -euo pipefail
hypura=$1 table=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
least_models=131 least_quantised=10

generator=$(compgen -G '/usr/libexec/*/llama.cpp-tests/test-llama-archs' | head -n 1) ||
    { echo "llama.cpp-tests is not installed"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/plain" "$folder/quantised" "$folder/reports"

# Prints the names of the models in folder $1 that streaming computes as plain libllama does.
verify_folder() {
    local reports=$folder/reports
    # shellcheck disable=SC2016  # for the inner shell
    find "$1" -name '*.gguf' -print0 | xargs -0 -P 2 -I{} bash -c '
        report=$2/$(basename "$3" .gguf).json
        "$1" verify "$3" --threads 1 --json >"$report" 2>"$report.log" && echo "$(basename "$3")" || {
            echo "FAILED: $3" >&2
            tail -n 3 "$report.log" >&2
        }' _ "$hypura" "$reports" {} || true
}

quantise() {
    local source target
    source=$folder/plain/$1.gguf target=$folder/quantised/$1-$2.gguf
    [[ -f $source ]] || return 0
    llama-quantize --allow-requantize "$source" "$target" "$2" >/dev/null 2>&1 || rm -f "$target"
}

expect_at_least() {
    echo "$2 of $1 $3 models are identical"
    (($2 == $1 && $1 >= $4)) || { echo "expected all, and at least $4" >&2; exit 1; }
}

count_models() { find "$1" -name '*.gguf' | wc -l; }

"$generator" -o "$folder/plain" >/dev/null 2>&1 || true
identical=$(verify_folder "$folder/plain" | wc -l)
if [[ -n $table ]]; then python3 "$here/archs_table.py" "$folder/reports" >"$table"; fi
expect_at_least "$(count_models "$folder/plain")" "$identical" plain $least_models

command -v llama-quantize >/dev/null || exit 0
for model in llama-moe llama-dense qwen2moe-moe qwen3moe-moe deepseek2-moe glm4moe-moe olmoe-moe dbrx-moe \
    gpt-oss-moe gemma3-dense qwen3-dense phi3-dense; do
    for format in Q4_K Q8_0 MXFP4_MOE; do quantise "$model" "$format"; done
done
identical=$(verify_folder "$folder/quantised" | wc -l)
expect_at_least "$(count_models "$folder/quantised")" "$identical" quantised $least_quantised
