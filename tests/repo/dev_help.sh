#!/usr/bin/env bash
# `./dev help` lists every verb, and lists none that is not there. Usage: dev_help.sh REPOSITORY
set -euo pipefail
cd "$1"

verbs=$(sed -nE 's/^verb_([a-z_]+)\(\).*/\1/p' dev | sort)
# A verb's line starts with two blanks; two verbs may share a line ("asan, tsan").
listed=$(./dev help | awk '/^environment/ { exit } /^  [a-z]/ { print $1; if ($1 ~ /,$/) print $2 }' | tr -d , | sort)

[[ -n $verbs ]] || { echo "found no verbs in ./dev" >&2; exit 1; }
diff <(echo "$verbs") <(echo "$listed") || {
    echo "the verbs of ./dev (<) and those its help lists (>) differ" >&2
    exit 1
}
