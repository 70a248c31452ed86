// Modes without streaming: libllama does what it does best, untouched.
#include "engine/runtime.h"

namespace hypura::engine {
namespace {

// A mapped file would stay mapped beside the weights that were repacked out of it, and count twice: the peak of a 2.3
// GiB model was 3.9 GiB, and is 2.5 GiB.
llama_load_mode load_mode(Mode mode) { return mode == Mode::kResident ? LLAMA_LOAD_MODE_NONE : LLAMA_LOAD_MODE_MMAP; }

}  // namespace

Status open_plain(Runtime& runtime, const EngineOptions& options) {
    std::vector<std::string> paths;
    paths.reserve(runtime.file.parts.size());
    for (const gguf::Part& part : runtime.file.parts) paths.push_back(part.path);
    const bool repack = runtime.report.mode == Mode::kResident && !options.plain_reference;
    HYPURA_TRY(load_llama_model(runtime, paths, load_mode(runtime.report.mode), repack, options.on_load));
    HYPURA_TRY(make_context(runtime, options, options.batch_tokens));
    runtime.report.resident_bytes = runtime.file.tensor_bytes;
    if (options.on_load) options.on_load({runtime.file.tensor_bytes, runtime.file.tensor_bytes});
    return {};
}

}  // namespace hypura::engine
