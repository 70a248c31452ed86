#!/usr/bin/env bash
# Makes the folder of models that the tests serve. Usage: models.sh MAKE_TEST_MODEL DEMO_MODEL SOURCE BUILD
set -euo pipefail
make_test_model=$1 demo=$2 source_folder=$3 build=$4
mkdir -p "$build/models"
cp -u "$demo" "$build/models/demo-moe.gguf"
"$make_test_model" "$demo" "$build/models/thinker.gguf" "$source_folder/thinker.jinja" thinker
