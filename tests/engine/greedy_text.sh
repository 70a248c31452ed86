#!/usr/bin/env bash
# Streaming says, token by token, what llama-completion says. Usage: greedy_text.sh HYPURA DEMO_FOLDER
set -euo pipefail
hypura=$1 model=$2/demo-moe.gguf
command -v llama-completion >/dev/null || { echo "llama-completion is not installed"; exit 77; }

expect_same_text() {
    local prompt=$1 rendered theirs ours
    rendered=$'<|im_start|>user\n'"$prompt"$'<|im_end|>\n<|im_start|>assistant\n'
    theirs=$(llama-completion -m "$model" -p "$rendered" -n 48 --temp 0 -no-cnv --no-repack -ngl 0 \
        --no-display-prompt --no-warmup -c 512 </dev/null 2>/dev/null)
    theirs=${theirs%% \[end of text\]*}
    ours=$("$hypura" run "$model" -p "$prompt" -n 48 --temp 0 --mode stream --weights 5MiB -q)
    [[ -n $ours && $ours == "${theirs%$'\n'}" ]] || {
        printf '%s\n  llama-completion: %s\n  hypura:           %s\n' "$prompt" "$theirs" "$ours" >&2
        exit 1
    }
}

expect_same_text "What is hypura.cpp?"
expect_same_text "Why does mmap thrash?"
expect_same_text "Tell me a short story about a brave fox named Mia."
