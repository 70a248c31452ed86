#!/usr/bin/env bash
# Runs one suite with node's own test runner. Usage: run.sh SOURCE BUILD HYPURA SUITE
set -euo pipefail
source_folder=$1 build=$2 hypura=$3 suite=$4
# Modules are looked up beside the file that imports them: the tests run from a copy beside node_modules.
mkdir -p "$build/results"
cp -u "$source_folder"/*.mjs "$build"
rm -f "$build/results/$suite.jsonl"
cd "$build"
HYPURA=$hypura MODELS=$build/models RESULTS=$build/results/$suite.jsonl \
    exec node --test --test-concurrency=1 --test-timeout=120000 "$suite.test.mjs"
