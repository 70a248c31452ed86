# fish completion for hypura

set -l engine '__fish_seen_subcommand_from run bench trace verify logits'
set -l run '__fish_seen_subcommand_from run'

complete -c hypura -n __fish_use_subcommand -f -a run -d 'answer a prompt, or chat'
complete -c hypura -n __fish_use_subcommand -f -a verify -d 'compare streaming with plain libllama'
complete -c hypura -n __fish_use_subcommand -f -a logits -d 'write the logits of given tokens'
complete -c hypura -n __fish_use_subcommand -f -a bench -d 'compare the speed with stock llama.cpp'
complete -c hypura -n __fish_use_subcommand -f -a bench-report -d 'table of benchmark files'
complete -c hypura -n __fish_use_subcommand -f -a trace -d 'write down which experts a run asks for'
complete -c hypura -n __fish_use_subcommand -f -a simulate -d 'replay a trace through replacement policies'
complete -c hypura -n __fish_use_subcommand -f -a iobench -d 'measure what a disk gives'
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

set -l bench '__fish_seen_subcommand_from bench'
complete -c hypura -n $bench -x -l limit -d 'memory limit of each program'
complete -c hypura -n $bench -x -l prompts -d 'prompt lengths'
complete -c hypura -n $bench -x -l tokens -d 'tokens decoded and measured'
complete -c hypura -n $bench -x -l warm-up -d 'tokens decoded before them'
complete -c hypura -n $bench -x -l depth -d 'prompt tokens before those'
complete -c hypura -n $bench -x -l rounds -d 'runs of each program'
complete -c hypura -n $bench -x -l peers -a 'mmap default none' -d 'what to compare with'
complete -c hypura -n $bench -x -l cache -a 'drop keep' -d 'page cache before each run'
complete -c hypura -n $bench -x -l ceiling-seconds -d 'time for measuring the disk'
complete -c hypura -n $bench -l no-floor -d 'estimate the compute floor'
complete -c hypura -n $bench -l quick -d 'one short round'

set -l trace '__fish_seen_subcommand_from trace'
complete -c hypura -n $trace -r -l out -d 'file to write'
complete -c hypura -n $trace -x -s p -l prompt -d 'a question'
complete -c hypura -n $trace -r -l prompts -d 'file with a question on each line'
complete -c hypura -n $trace -x -s n -l max-tokens -d 'most tokens an answer'
complete -c hypura -n $trace -x -l random-tokens -d 'random tokens after them'
complete -c hypura -n $trace -l raw -d 'without the chat template'
complete -c hypura -n $trace -x -l temp -d temperature
complete -c hypura -n $trace -x -l seed -d seed

set -l simulate '__fish_seen_subcommand_from simulate'
complete -c hypura -n $simulate -x -l pool -d 'pool sizes in percent'
complete -c hypura -n $simulate -x -l cold-passes -d 'passes that do not count'
complete -c hypura -n $simulate -l experts-only -d 'leave out dense weights'
complete -c hypura -n $simulate -l decode-only -d 'leave out passes of several tokens'
complete -c hypura -n $simulate -l all-policies -d 'also policies that are not shipped'

set -l iobench '__fish_seen_subcommand_from iobench'
complete -c hypura -n $iobench -x -l sizes -d 'request sizes'
complete -c hypura -n $iobench -x -l depths -d 'queue depths'
complete -c hypura -n $iobench -x -l seconds -d 'time for each size and depth'
complete -c hypura -n $iobench -x -l rounds -d rounds
complete -c hypura -n $iobench -x -l file-size -d 'size of the test file'
complete -c hypura -n $iobench -x -l io -a 'auto io_uring pread' -d 'how files are read'

complete -c hypura -n '__fish_seen_subcommand_from bench simulate iobench' -r -l json -d 'file for the figures'
complete -c hypura -n '__fish_seen_subcommand_from bench simulate iobench' -r -l plot -d 'picture: .svg or .png'
