#!/usr/bin/env bash
# `cmake --install` puts the program, its manual page and the completions of three shells where they are looked for.
# Usage: install.sh CMAKE BUILD_FOLDER
set -euo pipefail
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

"$1" --install "$2" --prefix "$prefix" >/dev/null
for file in bin/hypura share/man/man1/hypura.1 share/bash-completion/completions/hypura \
    share/zsh/site-functions/_hypura share/fish/vendor_completions.d/hypura.fish; do
    [[ -s $prefix/$file ]] || { echo "$file is not installed" >&2; exit 1; }
done
[[ $("$prefix/bin/hypura" --version) == "hypura "* ]] || { echo "the installed program does not run" >&2; exit 1; }
