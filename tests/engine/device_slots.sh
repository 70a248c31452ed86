#!/usr/bin/env bash
# Experts in device slots, on a Vulkan device in software (lavapipe): the processor's tokens on the demo model, its
# logits on many architectures, with slots too few for all. Usage: device_slots.sh HYPURA DEMO_FOLDER
set -euo pipefail
hypura=$1 model=$2/demo-moe.gguf
least_models=8
export GGML_VK_VISIBLE_DEVICES=0

die() { echo "$*" >&2; exit 1; }

device=$("$hypura" run --list-devices | awk '$2 == "gpu" { print $1; exit }')
[[ -n $device ]] || { echo "ggml's Vulkan backend or a Vulkan driver is not installed"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Without the profile of whoever runs this: it would call the driver slow, and leave it out where nobody names it.
export MESA_SHADER_CACHE_DIR=${XDG_CACHE_HOME:-$HOME/.cache}
export XDG_CACHE_HOME=$folder

# Without the variable a driver in software is no device, and none is chosen.
[[ -z $(env -u GGML_VK_VISIBLE_DEVICES "$hypura" run --list-devices | grep -i llvmpipe) ]] ||
    die "a driver in software is used without being asked for"

# field FILE PATH: a number of the program's statistics.
field() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda o, k: o[k], sys.argv[2].split("."), json.load(open(sys.argv[1]))))' "$1" "$2"; }

expect() { python3 -c "import sys; sys.exit(not ($1))" || die "$2: $1"; }

ask() {
    "$hypura" run "$model" -p "$1" -n 100 --temp 0 -q --ctx 512 --batch 32 --mode stream --stats "$folder/stats.json" \
        "${@:2}"
}

# Bytes of the demo model's layers and output, of keys and values, and of libllama's buffers are taken off --vram
# before experts get their share; the planner's figure says how many.
expect_same_answer() {
    local prompt=$1 ours theirs
    theirs=$(ask "$prompt" --device none)
    ours=$(ask "$prompt" --device "$device" --vram "$2")
    [[ -n $ours && $ours == "$theirs" ]] ||
        die "$(printf '%s\n  processor: %s\n  device:    %s' "$prompt" "$theirs" "$ours")"
}

# Some of the experts, all of them, none.
expect_same_answer "What is hypura.cpp?" 14MiB
expect "0 < $(field "$folder/stats.json" devices.hits) < $(field "$folder/stats.json" devices.demands)" "hits"
expect "$(field "$folder/stats.json" devices.uploaded_bytes) > 2 * $(field "$folder/stats.json" devices.slot_bytes)" \
    "slots were filled again and again"
expect "$(field "$folder/stats.json" devices.batches_in_pieces) > 0" "the prompt named more experts than slots"
expect_same_answer "Why does mmap thrash?" 200MiB
expect "$(field "$folder/stats.json" devices.weight_bytes) > 16 << 20" "all experts stay on the device"
expect "$(field "$folder/stats.json" devices.demands) == 0" "nothing is left to be brought"
expect_same_answer "Tell me a short story about a brave fox named Mia." 5MiB
expect "$(field "$folder/stats.json" devices.slot_bytes) == 0" "no room for experts"

# Passes: libllama's 512 on the processor, longer ones with a card that has room for their buffers.
pass_tokens() {
    "$hypura" run "$model" -p hi -n 1 --temp 0 -q --ctx 1024 --mode stream --stats "$folder/stats.json" "$@" >"$folder/hi"
    field "$folder/stats.json" batch_tokens
}
expect "$(pass_tokens --device none) == 512" "passes on the processor"
expect "$(pass_tokens --device "$device" --vram 200MiB) == 1024" "passes with a card that holds all"

# Two cards: the same driver twice. Experts of either come and go; all of them in two banks; and what one card can hold
# alone, one card holds.
names() { python3 -c 'import json, sys; print(len(json.load(open(sys.argv[1]))["devices"]["names"]))' "$1"; }
both=$(GGML_VK_VISIBLE_DEVICES=0,0 "$hypura" run --list-devices | awk '$2 == "gpu" { print $1 }' | paste -sd,)
[[ $both == *,* ]] || die "the driver twice is two devices, not $both"
export GGML_VK_VISIBLE_DEVICES=0,0
device_alone=$device device=$both
expect_same_answer "What is hypura.cpp?" 14MiB
expect "$(names "$folder/stats.json") == 2" "both cards are used"
expect "0 < $(field "$folder/stats.json" devices.hits) < $(field "$folder/stats.json" devices.demands)" "hits on two cards"
expect_same_answer "Why does mmap thrash?" 200MiB
expect "$(field "$folder/stats.json" devices.demands) == 0" "two cards hold all experts"
device=auto
expect_same_answer "Why does mmap thrash?" 14MiB
expect "$(names "$folder/stats.json") == 1" "one card has what was allowed"
export GGML_VK_VISIBLE_DEVICES=0
device=$device_alone

# What the next layer is likely to name is uploaded while this one computes.
"$hypura" make-model "$folder/layers.gguf" --arch qwen3moe --layers 8 --experts 32 --top-k 2 --embd 256 --ff 256 \
    --heads 4 --kv-heads 2 --head-dim 64 --vocab 512 --quant q8_0 >/dev/null
"$hypura" run "$folder/layers.gguf" --raw -p "abc" -n 60 --temp 0 -q --ctx 512 --batch 32 --mode stream --device "$device" \
    --vram 30MiB --stats "$folder/stats.json" >/dev/null
expect "$(field "$folder/stats.json" devices.brought_ahead) > 50" "experts came ahead"

# Prompts that name more experts than there are slots, by whole parts of a layer where there is room for these: the
# processor's answer, too, and each layer's free slots are filled on the way.
"$hypura" make-model "$folder/deep.gguf" --arch qwen3moe --layers 16 --experts 32 --top-k 4 --embd 256 --ff 256 \
    --heads 4 --kv-heads 2 --head-dim 64 --vocab 512 --quant f16 >/dev/null
answer() {
    "$hypura" run "$folder/deep.gguf" --raw -p "$(seq 1 30 | tr '\n' ' ')" -n 8 --temp 0 -q --ctx 512 --batch 32 \
        --mode stream --stats "$folder/stats.json" "$@"
}
expected=$(answer --device none)
[[ $(answer --device "$device" --vram 130MiB) == "$expected" ]] || die "staged batches: another answer"
expect "$(field "$folder/stats.json" devices.batches_staged) > 20" "batches were staged"
expect "$(field "$folder/stats.json" devices.batches_in_pieces) == 0" "none in pieces"
[[ $(answer --device "$device" --vram 130MiB --weights 60MiB) == "$expected" ]] ||
    die "staged batches from the file: another answer"
expect "$(field "$folder/stats.json" devices.batches_staged) > 20" "batches were staged from the file"

# Slots too few on the device and in RAM: what later layers are likely to name is read ahead, and mostly rightly.
"$hypura" run "$folder/layers.gguf" --raw -p "abc" -n 60 --temp 0 -q --ctx 512 --batch 32 --mode stream --device "$device" \
    --vram 30MiB --weights 12MiB --stats "$folder/stats.json" >/dev/null
expect "$(field "$folder/stats.json" streaming.prefetches) > 30" "experts were read ahead"
expect "4 * $(field "$folder/stats.json" streaming.prefetch_wasted) < $(field "$folder/stats.json" streaming.prefetches)" \
    "most of them were needed"

generator=$(compgen -G '/usr/libexec/*/llama.cpp-tests/test-llama-archs' | head -n 1) ||
    { echo "llama.cpp-tests is not installed: no other architectures"; exit 0; }
"$generator" -o "$folder" >/dev/null 2>&1 || true
passed=0
for name in llama qwen2moe qwen3moe deepseek2 glm4moe olmoe dbrx gpt-oss phimoe; do
    gguf=$folder/$name-moe.gguf
    [[ -f $gguf ]] || continue
    "$hypura" verify "$gguf" --device "$device" --threads 1 --json >"$folder/report.json" ||
        die "$name: logits differ by $(field "$folder/report.json" runs.0.largest_error)"
    ((++passed))
done
echo "$passed architectures agree"
((passed >= least_models)) || die "expected at least $least_models"
