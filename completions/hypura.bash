# bash completion for hypura

_hypura() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"
    local engine="--ram --weights --mode --ctx --kv --batch --threads --io --device --vram --gpu-layers --rpc --list-devices --help"
    local plan="--ram --weights --mode --ctx --kv --batch --device --vram --gpu-layers --prompt-tokens --skew --reuse --json --svg --help"
    local options
    case "$previous" in
        --mode) COMPREPLY=($(compgen -W "auto resident stream mmap" -- "$current")); return ;;
        --peers) COMPREPLY=($(compgen -W "mmap default mmap,default none" -- "$current")); return ;;
        --cache) COMPREPLY=($(compgen -W "drop keep" -- "$current")); return ;;
        --kv) COMPREPLY=($(compgen -W "f16 q8_0 q4_0 auto" -- "$current")); return ;;
        --draft) COMPREPLY=($(compgen -W "auto none lookup" -- "$current") $(compgen -d -S / -- "$current")
                            $(compgen -f -X '!*.gguf' -- "$current")); return ;;
        --io) COMPREPLY=($(compgen -W "auto io_uring pread" -- "$current")); return ;;
        --models | --prefixes) COMPREPLY=($(compgen -d -- "$current")); return ;;
        --like) COMPREPLY=($(compgen -W "mixtral-8x7b llama-3.3-70b qwen2.5-14b qwen3-30b-a3b gpt-oss-120b lab-moe-8g lab-dense-5g" \
            -- "$current")); return ;;
        --quant) COMPREPLY=($(compgen -W "f16 q8_0 q4_0 q4_K q5_K q6_K mxfp4" -- "$current")); return ;;
        --mix) COMPREPLY=($(compgen -W "q4_k_m q5_k_m" -- "$current")); return ;;
        -f | --file | --stats | --out | --prompts | --plot | --svg) COMPREPLY=($(compgen -f -- "$current")); return ;;
    esac
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "run serve bench bench-report iobench trace simulate verify logits plan inspect estimate profile doctor make-model help --help --version" -- "$current"))
        return
    fi
    case "$command" in
        run) options="$engine --draft --prompt --file --interactive --max-tokens --system --stop --raw --stats --quiet
                      --temp --top-k --top-p --min-p --repeat-penalty --seed" ;;
        serve) options="--models --host --parallel --queue --ctx --keep-alive --max-loaded --origins --api-key --prefixes
                      --ping --ram --weights --mode --kv --batch --threads --io --device --vram --gpu-layers --rpc
                      --list-devices --draft --help" ;;
        verify) options="$engine --draft --tokens --seed --json" ;;
        logits) options="$engine --tokens --out" ;;
        bench) options="$engine --limit --prompts --tokens --warm-up --depth --rounds --peers --cache --ceiling-seconds --no-floor --quick
                        --json --plot" ;;
        trace) options="$engine --out --prompt --prompts --max-tokens --random-tokens --raw
                        --temp --top-k --top-p --min-p --repeat-penalty --seed" ;;
        simulate) options="--pool --cold-passes --experts-only --decode-only --demands-only --all-policies --json --plot --help" ;;
        iobench) options="--sizes --depths --seconds --rounds --file-size --io --json --plot --help" ;;
        make-model) options="--like --scale --arch --layers --experts --top-k --embd --ff --heads --kv-heads --head-dim
                             --vocab --ctx --quant --mix --router-skew --locality --seed --split-max-size --dry-run
                             --help" ;;
        plan | inspect) options="$plan --rpc" ;;
        estimate) options="$plan --like --scale --disk --disk-latency --cores --memory-bandwidth" ;;
        profile) options="--rpc --json --again --help" ;;
        doctor) options="--json --help" ;;
        *) options="--help" ;;
    esac
    case "$command" in
        bench-report | simulate | iobench) [[ $current == -* ]] || { COMPREPLY=($(compgen -f -- "$current")); return; } ;;
    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    else
        COMPREPLY=($(compgen -d -S / -- "$current") $(compgen -f -X '!*.gguf' -- "$current"))
    fi
}

complete -o filenames -F _hypura hypura
