#!/usr/bin/env bash
# The checks of this folder fail on what they are there to catch. Each case breaks one rule in a small tree of its own.
# Usage: checks_fail.sh REPOSITORY
set -euo pipefail
checks=$1/tests/repo
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failures=0

# fresh_tree: an empty repository that breaks no rule.
fresh_tree() {
    rm -rf "${scratch:?}/tree"
    mkdir -p "$scratch"/tree/{src/{base,gguf,storage,engine,server,cli},tests,fuzz}
    cp "${checks%tests/repo}.clang-format" "$scratch/tree"
    echo '#include <vector>' >"$scratch/tree/src/base/bytes.h"
    printf '%s\n' '#!/usr/bin/env bash' 'verb_help() { echo "  help  this text"; }' 'verb_help' >"$scratch/tree/dev"
    chmod +x "$scratch/tree/dev"
    mkdir "$scratch/tree/demo"
    echo weights >"$scratch/tree/demo/demo-moe.gguf"
    echo "| sha256 | \`$(sha256sum <"$scratch/tree/demo/demo-moe.gguf" | cut -d' ' -f1)\` |" >"$scratch/tree/demo/README.md"
}

# passes CHECK / fails CHECK WHAT
passes() {
    bash "$checks/$1" "$scratch/tree" >/dev/null || { echo "$1 fails on a clean tree" >&2; failures=1; }
}
fails() {
    ! bash "$checks/$1" "$scratch/tree" >/dev/null 2>&1 || { echo "$1 let pass: $2" >&2; failures=1; }
}

# rejects CHECK FILE LINE: the check fails once FILE ends with LINE.
rejects() {
    fresh_tree
    passes "$1"
    echo "$3" >>"$scratch/tree/$2"
    fails "$1" "$2: $3"
}

rejects include_direction.sh src/base/bytes.h '#include "storage/reader.h"'
rejects include_direction.sh src/gguf/a.h '#include "storage/reader.h"'
rejects include_direction.sh src/storage/a.cpp '  # include "engine/engine.h"'
rejects include_direction.sh src/server/a.cpp '#include "cli/command.h"'
rejects include_direction.sh src/engine/a.cpp '#include "../server/server.h"'
rejects include_direction.sh src/cli/main.cpp '#include <llama.h>'
rejects include_direction.sh src/gguf/a.cpp '#include "gguf.h"'
rejects include_direction.sh src/server/a.cpp '#include <ggml-backend.h>'
rejects include_direction.sh src/server/a.cpp '#include <minja/chat-template.hpp>'
rejects include_direction.sh src/engine/a.cpp '#include <httplib.h>'
rejects include_direction.sh src/engine/a.cpp 'const char* home = std::getenv("HOME");'
# Spelled in two parts, or machine_names.sh would find them here.
rejects machine_names.sh src/base/bytes.h "// see /""work/notes"
rejects machine_names.sh dev "cache=/""root/.cache"
rejects machine_names.sh dev "mirror=http://deb"".debian.org/debian"
rejects machine_names.sh dev "mirror=http://archive"".ubuntu.com/ubuntu"
rejects demo_model.sh demo/demo-moe.gguf 'one more line'
rejects dev_help.sh dev 'verb_secret() { :; }'
[[ $(bash "$checks/format.sh" "$1") == *"not installed"* ]] || rejects format.sh src/base/bytes.h 'int   f( );'

exit "$failures"
