#!/usr/bin/env bash
# The bundled model is the one its README describes. Usage: demo_model.sh REPOSITORY
set -euo pipefail
cd "$1/demo"

# shellcheck disable=SC2016  # the backquotes are the document's
stated=$(sed -nE 's/^\| sha256 \| `([0-9a-f]{64})` \|$/\1/p' README.md)
actual=$(sha256sum demo-moe.gguf | cut -d' ' -f1)
[[ $stated == "$actual" ]] || {
    echo "demo-moe.gguf has the sha256 $actual, its README says ${stated:-nothing}" >&2
    exit 1
}
