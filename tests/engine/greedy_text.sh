#!/usr/bin/env bash
# Streaming says, token by token, what llama-completion says. Usage: greedy_text.sh HYPURA DEMO_FOLDER
set -euo pipefail
hypura=$1 model=$2/demo-moe.gguf
command -v llama-completion >/dev/null || { echo "llama-completion is not installed"; exit 77; }

# llama-completion prints from a log thread and may leave before the last tokens are out (15 of 40 runs on busy cores):
# only an output that holds the marker of the end is complete.
complete_answer() {
    local rendered=$1 text
    for _ in {1..25}; do
        text=$(llama-completion -m "$model" -p "$rendered" -n 160 --temp 0 -t 1 -no-cnv --no-repack -ngl 0 \
            --no-display-prompt --no-warmup -c 512 </dev/null 2>/dev/null)
        [[ $text != *"[end of text]"* ]] || { printf '%s' "${text%% \[end of text\]*}"; return; }
    done
    echo "llama-completion never printed a whole answer" >&2
    return 1
}

expect_same_text() {
    local prompt=$1 rendered theirs ours
    rendered=$'<|im_start|>user\n'"$prompt"$'<|im_end|>\n<|im_start|>assistant\n'
    theirs=$(complete_answer "$rendered")
    ours=$("$hypura" run "$model" -p "$prompt" -n 160 --temp 0 --threads 1 --mode stream --weights 5MiB -q)
    [[ -n $ours && $ours == "$theirs" ]] || {
        printf '%s\n  llama-completion: %s\n  hypura:           %s\n' "$prompt" "$theirs" "$ours" >&2
        exit 1
    }
}

expect_same_text "What is hypura.cpp?"
expect_same_text "Why does mmap thrash?"
expect_same_text "Tell me a short story about a brave fox named Mia."
