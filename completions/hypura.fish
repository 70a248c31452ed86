# fish completion for hypura

set -l engine '__fish_seen_subcommand_from run bench verify logits'
set -l run '__fish_seen_subcommand_from run'

complete -c hypura -n __fish_use_subcommand -f -a run -d 'answer a prompt, or chat'
complete -c hypura -n __fish_use_subcommand -f -a verify -d 'compare streaming with plain libllama'
complete -c hypura -n __fish_use_subcommand -f -a logits -d 'write the logits of given tokens'
complete -c hypura -n __fish_use_subcommand -f -a bench -d 'measure prompt and decode speed'
complete -c hypura -n __fish_use_subcommand -f -a inspect -d 'show what a model file says about itself'
complete -c hypura -n __fish_use_subcommand -f -a make-model -d 'write a synthetic model'
complete -c hypura -n __fish_use_subcommand -f -a help -d 'show the help'
complete -c hypura -n __fish_use_subcommand -f -l version -d 'show the version'

complete -c hypura -n $engine -x -l ram -d 'memory for everything'
complete -c hypura -n $engine -x -l weights -d 'memory for weights alone'
complete -c hypura -n $engine -x -l mode -a 'auto resident stream mmap' -d 'how weights are held'
complete -c hypura -n $engine -x -l ctx -d 'tokens of context'
complete -c hypura -n $engine -x -l batch -d 'most prompt tokens a pass'
complete -c hypura -n $engine -x -l threads -d 'compute threads'
complete -c hypura -n $engine -x -l io -a 'auto io_uring pread' -d 'how files are read'

complete -c hypura -n $run -x -s p -l prompt -d 'the question'
complete -c hypura -n $run -r -s f -l file -d 'file with the question'
complete -c hypura -n $run -s i -l interactive -d chat
complete -c hypura -n $run -x -s n -l max-tokens -d 'most tokens an answer'
complete -c hypura -n $run -x -l system -d 'system message'
complete -c hypura -n $run -x -l stop -d 'text that ends the answer'
complete -c hypura -n $run -l raw -d 'without the chat template'
complete -c hypura -n $run -r -l stats -d 'write statistics as JSON'
complete -c hypura -n $run -s q -l quiet -d 'no closing summary'
complete -c hypura -n $run -x -l temp -d temperature
complete -c hypura -n $run -x -l top-k -d 'likeliest tokens to choose among'
complete -c hypura -n $run -x -l top-p -d 'probability to choose among'
complete -c hypura -n $run -x -l min-p -d 'least probability'
complete -c hypura -n $run -x -l repeat-penalty -d 'penalty of recent tokens'
complete -c hypura -n '__fish_seen_subcommand_from run verify' -x -l seed -d seed

complete -c hypura -n '__fish_seen_subcommand_from verify' -x -l tokens -d 'single-token passes'
complete -c hypura -n '__fish_seen_subcommand_from verify inspect' -l json -d 'print JSON'
complete -c hypura -n '__fish_seen_subcommand_from logits' -x -l tokens -d 'token numbers'
complete -c hypura -n '__fish_seen_subcommand_from logits' -r -l out -d 'file to write'
