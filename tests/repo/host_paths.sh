#!/usr/bin/env bash
# Inside the private root of ./dev every path of the host that a command names is there: also one below a folder that the
# root has of its own. Mounts are only recorded, so no rights are needed. Usage: host_paths.sh REPOSITORY
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mounts=$scratch/mounts

# shellcheck source=cmake/debian_root.sh
source "$1/cmake/debian_root.sh"
mount() { echo "$*" >>"$mounts"; }

# mounts_for STAGE PATH…: what expose mounts for each of them.
mounts_for() {
    local stage=$1 path
    shift
    : >"$mounts"
    for path in "$@"; do expose "$stage" "$path"; done
    sed "s|$scratch|…|g" "$mounts"
}

expect() {
    [[ $2 == "$3" ]] || { printf '%s:\n  expected %s\n  got      %s\n' "$1" "$3" "$2" >&2; exit 1; }
}

stage=$scratch/stage host=$scratch/usr/share/models
mkdir -p "$stage" "$host/docs"
touch "$host/m.gguf" "$host/n.gguf"
expect "a model brings its folder" "$(mounts_for "$stage" "$host/m.gguf")" "--rbind …/usr/share/models …/stage…/usr/share/models"
expect "a folder" "$(mounts_for "$scratch/other" "$host/docs")" "--rbind …/usr/share/models/docs …/other…/usr/share/models/docs"
expect "one that the root has is not covered" "$(mounts_for "$stage" "$host/n.gguf")" "--bind …/usr/share/models/n.gguf …/stage…/usr/share/models/n.gguf"
expect "what is there already" "$(mounts_for "$stage" "$host/n.gguf")" ""
expect "what is no path" "$(mounts_for "$stage" run -p "a question" /no/such/path 1/2)" ""
(cd "$host" && expect "a relative path" "$(mounts_for "$scratch/third" ./m.gguf)" "--rbind …/usr/share/models …/third…/usr/share/models")
