# bash completion for hypura

_hypura() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"
    local engine="--ram --weights --mode --ctx --batch --threads --io --help"
    local options
    case "$previous" in
        --mode) COMPREPLY=($(compgen -W "auto resident stream mmap" -- "$current")); return ;;
        --io) COMPREPLY=($(compgen -W "auto io_uring pread" -- "$current")); return ;;
        -f | --file | --stats | --out) COMPREPLY=($(compgen -f -- "$current")); return ;;
    esac
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "run bench verify logits inspect make-model help --help --version" -- "$current"))
        return
    fi
    case "$command" in
        run) options="$engine --prompt --file --interactive --max-tokens --system --stop --raw --stats --quiet
                      --temp --top-k --top-p --min-p --repeat-penalty --seed" ;;
        verify) options="$engine --tokens --seed --json" ;;
        logits) options="$engine --tokens --out" ;;
        bench) options="$engine --prompt-tokens --warm-up --tokens --json" ;;
        inspect) options="--json --help" ;;
        *) options="--help" ;;
    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    else
        COMPREPLY=($(compgen -d -S / -- "$current") $(compgen -f -X '!*.gguf' -- "$current"))
    fi
}

complete -o filenames -F _hypura hypura
