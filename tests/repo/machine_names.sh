#!/usr/bin/env bash
# Nothing in the repository names one machine: no absolute path of somebody's checkout or home folder, and no package
# archive (./dev takes that from the host). Usage: machine_names.sh REPOSITORY
set -euo pipefail
cd "$1"

# Bracketed so that this file does not match itself.
readonly paths='(^|[^[:alnum:]_.$}*?-])/(work|roo[t])/'
readonly archives='(deb|ftp[.a-z]*|snapshot|security|archive)[.]debian[.]|(archive|ports|security)[.]ubuntu[.]com'

# Git need not be there (it is not in the private root), so every file counts that no build made.
repository_files() {
    find . \( -name .git -o -name 'build' -o -name 'build-*' -o -name .cache \) -prune -o -type f -print0
}

found=$(repository_files | xargs -0 grep -InE "$paths|$archives" || true)
[[ -z $found ]] || {
    printf 'these lines name a machine:\n%s\n' "$found" >&2
    exit 1
}
