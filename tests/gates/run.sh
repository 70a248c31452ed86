#!/usr/bin/env bash
# The end-to-end gates: streamed output is identical to resident output, and memory stays within the budget.
# Run by `./dev gates`, inside the toolchain, after a build into build/.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=${HYPURA_BUILD:-$here/../../build}
ctest --test-dir "$build" --output-on-failure -R 'Engine\.|Gate\.|end_to_end|Fault' "$@"
