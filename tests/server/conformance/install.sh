#!/usr/bin/env bash
# Installs the clients of package-lock.json into BUILD. Usage: install.sh SOURCE BUILD
set -euo pipefail
source_folder=$1 build=$2
mkdir -p "$build"
cp "$source_folder"/package.json "$source_folder"/package-lock.json "$build"
cd "$build"
command -v npm >/dev/null || { echo "npm is missing: install what dependencies.txt lists" >&2; exit 1; }
# Nothing to do when exactly these versions are there.
if [[ -f installed && $(<installed) == "$(sha256sum <package-lock.json)" ]]; then exit 0; fi
npm ci --no-audit --no-fund || {
    echo "npm could not install the pinned clients (is its registry reachable?): the conformance tests cannot run" >&2
    exit 1
}
sha256sum <package-lock.json >installed
