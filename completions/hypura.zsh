#compdef hypura
# zsh completion for hypura

_hypura() {
    local -a engine sampling plan
    local draft='--draft[guess next tokens, or a small model that does]:how:_files -g "*.gguf"'
    engine=(
        '--ram[memory for everything]:size or auto:'
        '--weights[memory for weights alone]:size:'
        '--mode[how weights are held]:mode:(auto resident stream mmap)'
        '--ctx[tokens of context]:tokens:'
        '--kv[type of the KV cache]:type:(f16 q8_0 q4_0 auto)'
        '--batch[most prompt tokens a pass]:tokens:'
        '--threads[compute threads]:threads:'
        '--io[how files are read]:kind:(auto io_uring pread)'
        '--device[names of devices]:auto, none or names:' '--vram[device memory to use]:size or auto:'
        '--gpu-layers[layers on devices]:number:' '--rpc[servers whose memory to use]:host\:port:'
        '--list-devices[list the devices and stop]'
        '*:model:_files -g "*.gguf"'
    )
    sampling=(
        '--temp[temperature]:number:' '--top-k[likeliest tokens]:number:' '--top-p[probability]:number:'
        '--min-p[probability]:number:' '--repeat-penalty[penalty]:number:' '--seed[seed]:number:'
    )
    plan=(
        '--ram[memory for everything]:size or auto:' '--weights[memory for weights alone]:size:'
        '--mode[how weights are held]:mode:(auto resident stream mmap)' '--ctx[tokens of context]:tokens:'
        '--kv[type of the KV cache]:type:(f16 q8_0 q4_0 auto)' '--batch[most prompt tokens a pass]:tokens:'
        '--device[with the graphics card]:kind:(auto none)' '--vram[memory of the card]:size or auto:'
        '--gpu-layers[layers on the card]:number:'
        '--prompt-tokens[prompt to predict for]:tokens:' '--skew[popularity of experts]:number:'
        '--reuse[experts in common with the last token]:share:' '--json[print JSON]' '--svg[draw the layers]:file:_files'
        '*:model:_files -g "*.gguf"'
    )
    if (( CURRENT == 2 )); then
        local -a commands
        commands=(
            'run:answer a prompt, or chat'
            'serve:serve models over HTTP'
            'verify:compare streaming with plain libllama'
            'logits:write the logits of given tokens'
            'bench:compare the speed with stock llama.cpp'
            'bench-report:table of benchmark files'
            'trace:write down which experts a run asks for'
            'simulate:replay a trace through replacement policies'
            'iobench:measure what a disk gives'
            'plan:show a model, where its weights would go, and how fast it would be'
            'inspect:the same as plan'
            'estimate:the same for a model and a machine that are not here'
            'profile:measure this machine and a disk'
            'doctor:check this host'
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
        run) _arguments $engine $sampling $draft \
            '(-p --prompt)'{-p,--prompt}'[the question]:text:' \
            '(-f --file)'{-f,--file}'[file with the question]:file:_files' \
            '(-i --interactive)'{-i,--interactive}'[chat]' \
            '(-n --max-tokens)'{-n,--max-tokens}'[most tokens an answer]:tokens:' \
            '--system[system message]:text:' '*--stop[text that ends the answer]:text:' \
            '--raw[without the chat template]' '--stats[write statistics]:file:_files' \
            '(-q --quiet)'{-q,--quiet}'[no closing summary]' ;;
        serve) _arguments $engine $draft \
            '--models[folder of models]:folder:_files -/' '--host[address to listen on]:address:' \
            '--parallel[requests of a model at once]:number:' '--queue[requests that may wait]:number:' \
            '--keep-alive[how long an idle model stays]:duration:' '--max-loaded[models at once]:number:' \
            '--origins[further origins of browsers]:origins:' '--api-key[key to ask for]:key:' \
            '--prefixes[folder of saved prefixes]:folder:_files -/' '--ping[seconds of silence]:seconds:' ;;
        verify) _arguments $engine $draft '--tokens[single-token passes]:tokens:' '--seed[seed]:number:' '--json[print JSON]' ;;
        logits) _arguments $engine '--tokens[token numbers]:list:' '--out[file to write]:file:_files' ;;
        bench) _arguments $engine '--limit[memory limit of each program]:size:' '--prompts[prompt lengths]:list:' \
            '--tokens[tokens measured]:number:' '--warm-up[tokens before them]:number:' '--depth[prompt before those]:number:' \
            '--rounds[runs of each]:number:' '--peers[what to compare with]:list:(mmap default none)' \
            '--cache[page cache before each run]:what:(drop keep)' '--ceiling-seconds[for measuring the disk]:number:' '--no-floor[estimate the compute floor]' \
            '--quick[one short round]' '--json[file for the figures]:file:_files' '--plot[picture]:file:_files' ;;
        trace) _arguments $engine $sampling '--out[file to write]:file:_files' \
            '*'{-p,--prompt}'[a question]:text:' '--prompts[file of questions]:file:_files' \
            {-n,--max-tokens}'[most tokens an answer]:tokens:' '--random-tokens[random tokens after them]:number:' \
            '--raw[without the chat template]' ;;
        simulate) _arguments '--pool[pool sizes in percent]:list:' '--cold-passes[passes that do not count]:number:' \
            '--experts-only[leave out dense weights]' '--decode-only[leave out batches]' '--demands-only[leave out prefetches]' '--all-policies[also policies that are not shipped]' \
            '--json[file for the figures]:file:_files' '--plot[picture]:file:_files' '*:trace:_files' ;;
        iobench) _arguments '--sizes[request sizes]:list:' '--depths[queue depths]:list:' '--seconds[time for each]:number:' \
            '--rounds[rounds]:number:' '--file-size[of the test file]:size:' '--io[how]:kind:(auto io_uring pread)' \
            '--json[file for the figures]:file:_files' '--plot[picture]:file:_files' '*:path:_files' ;;
        plan | inspect) _arguments $plan ;;
        estimate) _arguments $plan '--like[shape of a published model]:name:' '--scale[share of its layers]:share:' \
            '--disk[what the disk reads]:rate:' '--disk-latency[of a small read]:microseconds:' \
            '--cores[cores like this machine'"'"'s]:number:' '--memory-bandwidth[GB/s]:number:' ;;
        profile) _arguments '--rpc[measure these servers]:host\:port:' '--json[print JSON]' '--again[measure what is fresh, too]' '*:path:_files' ;;
        doctor) _arguments '--json[print JSON]' '*:path:_files' ;;
        make-model) _arguments \
            '--like[shape of a published model]:model:(mixtral-8x7b llama-3.3-70b qwen2.5-14b qwen3-30b-a3b gpt-oss-120b lab-moe-8g lab-dense-5g)' \
            '--scale[share of its layers]:number:' '--arch[architecture]:name:' '--layers[layers]:number:' \
            '--experts[experts a layer]:number:' '--top-k[experts a token uses]:number:' '--embd[model width]:number:' \
            '--ff[feed-forward width]:number:' '--heads[attention heads]:number:' \
            '--kv-heads[key and value heads]:number:' '--head-dim[elements a head]:number:' '--vocab[tokens]:number:' \
            '--ctx[training context]:tokens:' '--quant[type of all matrices]:type:(f16 q8_0 q4_0 q4_K q5_K q6_K mxfp4)' \
            '--mix[types of llama.cpp mixes]:mix:(q4_k_m q5_k_m)' '--router-skew[popularity of experts]:number:' \
            '--locality[routing shared with the last token]:number:' '--seed[seed]:number:' \
            '--split-max-size[tensor data a part]:size:' '--dry-run[write nothing]' '*:file to write:_files' ;;
        *) _files ;;
    esac
}

_hypura "$@"
