#compdef hypura
# zsh completion for hypura

_hypura() {
    local -a engine sampling
    engine=(
        '--ram[memory for everything]:size or auto:'
        '--weights[memory for weights alone]:size:'
        '--mode[how weights are held]:mode:(auto resident stream mmap)'
        '--ctx[tokens of context]:tokens:'
        '--batch[most prompt tokens a pass]:tokens:'
        '--threads[compute threads]:threads:'
        '--io[how files are read]:kind:(auto io_uring pread)'
        '*:model:_files -g "*.gguf"'
    )
    sampling=(
        '--temp[temperature]:number:' '--top-k[likeliest tokens]:number:' '--top-p[probability]:number:'
        '--min-p[probability]:number:' '--repeat-penalty[penalty]:number:' '--seed[seed]:number:'
    )
    if (( CURRENT == 2 )); then
        local -a commands
        commands=(
            'run:answer a prompt, or chat'
            'verify:compare streaming with plain libllama'
            'logits:write the logits of given tokens'
            'bench:measure prompt and decode speed'
            'inspect:show what a model file says about itself'
            'make-model:write a synthetic model'
            'help:show the help'
        )
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
        run) _arguments $engine $sampling \
            '(-p --prompt)'{-p,--prompt}'[the question]:text:' \
            '(-f --file)'{-f,--file}'[file with the question]:file:_files' \
            '(-i --interactive)'{-i,--interactive}'[chat]' \
            '(-n --max-tokens)'{-n,--max-tokens}'[most tokens an answer]:tokens:' \
            '--system[system message]:text:' '*--stop[text that ends the answer]:text:' \
            '--raw[without the chat template]' '--stats[write statistics]:file:_files' \
            '(-q --quiet)'{-q,--quiet}'[no closing summary]' ;;
        verify) _arguments $engine '--tokens[single-token passes]:tokens:' '--seed[seed]:number:' '--json[print JSON]' ;;
        logits) _arguments $engine '--tokens[token numbers]:list:' '--out[file to write]:file:_files' ;;
        bench) _arguments $engine '--prompt-tokens[tokens of the prompt]:number:' '--warm-up[tokens before measuring]:number:' '--tokens[tokens measured]:number:' '--json[print JSON]' ;;
        inspect) _arguments '--json[print JSON]' '*:model:_files -g "*.gguf"' ;;
        *) _files ;;
    esac
}

_hypura "$@"
