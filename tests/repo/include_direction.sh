#!/usr/bin/env bash
# The folder list of src/ is the architecture: a folder includes only itself and folders to its left, and each
# third-party library, and the environment, belongs to one folder. Usage: include_direction.sh REPOSITORY
set -euo pipefail
cd "$1/src"

# folder -> the folders it may include beside itself
declare -A allowed=(
    [base]=""
    [gguf]="base"
    [hardware]="base"
    [storage]="base"
    [placement]="base gguf hardware storage"
    [residency]="base gguf hardware storage placement"
    [engine]="base gguf hardware storage placement residency"
    [server]="base gguf hardware storage placement residency engine"
    [cli]="base gguf hardware storage placement residency engine server"
)
failures=0

fail() {
    echo "$*" >&2
    failures=$((failures + 1))
}

# includes_of FOLDER: "FILE:LINE:INCLUDED", one a line.
includes_of() {
    { grep -rnE --include='*.h' --include='*.cpp' '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' "$1" || true; } |
        sed -E 's/^([^:]*:[0-9]+):[^"<]*["<]([^">]*).*/\1:\2/'
}

check_direction() {
    local folder=$1 where=$2 included=$3 other=${3%%/*}
    if [[ $included == *../* ]]; then
        fail "src/$where: \"$included\": write the path from src/"
    elif [[ $included == */* && -v allowed[$other] && $other != "$folder" && " ${allowed[$folder]} " != *" $other "* ]]; then
        fail "src/$where: $folder may not include $included: $other is not to its left"
    fi
}

# A library's header outside the one folder that owns the library.
check_owner() {
    local folder=$1 where=$2 included=$3 owner
    case $included in
        llama.h | llama-*.h | llama/* | ggml.h | ggml-*.h | ggml/* | gguf.h | minja.h* | minja/*) owner=engine ;;
        httplib.h | */httplib.h) owner=server ;;
        *) return 0 ;;
    esac
    [[ $folder == "$owner" ]] || fail "src/$where: only src/$owner includes $included"
}

# Only the command line interface looks at the environment; everything else is told.
check_environment() {
    local use
    while read -r use; do
        fail "src/$use: only src/cli reads the environment"
    done < <(grep -rnE --include='*.h' --include='*.cpp' '\b(secure_)?getenv\(|\benviron\b' "$1" | cut -d: -f1,2)
}

checked=0
for folder in */; do
    folder=${folder%/}
    [[ -v allowed[$folder] ]] || { fail "src/$folder: not in the folder list of ${BASH_SOURCE[0]##*/}"; continue; }
    while IFS=: read -r file line included; do
        checked=$((checked + 1))
        check_direction "$folder" "$file:$line" "$included"
        check_owner "$folder" "$file:$line" "$included"
    done < <(includes_of "$folder")
    [[ $folder == cli ]] || check_environment "$folder"
done

((checked > 0)) || fail "found no includes at all in src/"
((failures == 0)) || exit 1
echo "$checked includes point left"
