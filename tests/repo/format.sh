#!/usr/bin/env bash
# The C++ is laid out as .clang-format says. Versions differ in details, so only the one that was used counts. It is not
# in the private root of `./dev test`: with its libraries it takes 200 MB. Usage: format.sh REPOSITORY
set -euo pipefail
readonly version=21

found=$(clang-format --version 2>/dev/null | sed -nE 's/.*version ([0-9]+).*/\1/p') || true
[[ $found == "$version" ]] || { echo "clang-format $version is not installed (found: ${found:-none})"; exit 77; }
find "$1"/{src,tests,fuzz} \( -name '*.cpp' -o -name '*.h' \) -print0 | xargs -0 clang-format --dry-run -Werror
