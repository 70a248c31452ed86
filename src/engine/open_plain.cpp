// Modes without streaming: libllama does what it does best, untouched.
#include "engine/runtime.h"

namespace hypura::engine {

Status open_plain(Runtime& runtime, const EngineOptions& options) {
    std::vector<std::string> paths;
    for (const gguf::Part& part : runtime.file.parts) paths.push_back(part.path);
    const bool repack = runtime.report.mode == Mode::kResident && !options.plain_reference;
    HYPURA_TRY(load_llama_model(runtime, paths, LLAMA_LOAD_MODE_MMAP, repack));
    HYPURA_TRY(make_context(runtime, options, options.batch_tokens));
    runtime.report.resident_bytes = runtime.file.tensor_bytes;
    if (options.on_load) options.on_load({runtime.file.tensor_bytes, runtime.file.tensor_bytes});
    return {};
}

}  // namespace hypura::engine
