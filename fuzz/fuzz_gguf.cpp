// Feeds arbitrary bytes to the GGUF header parser: no input may crash it, hang it or make it take memory out of
// proportion. Run: fuzz_gguf -rss_limit_mb=2048 CORPUS, with any small .gguf files in CORPUS.
#include "base/check.h"
#include "gguf/model_shape.h"
#include "gguf/reader.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace {

// What the rest of hypura relies on without looking again.
void check_tensors_inside(const hypura::gguf::Header& header, uint64_t file_bytes) {
    for (const auto& tensor : header.tensors) {
        HYPURA_CHECK(tensor.file_offset >= header.data_offset && tensor.file_offset <= file_bytes);
        HYPURA_CHECK(tensor.size_bytes > 0 && tensor.size_bytes <= file_bytes - tensor.file_offset);
        hypura::gguf::tensor_place(tensor.name);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    auto header = hypura::gguf::read_header(hypura::gguf::memory_source("input", bytes));
    if (!header) {
        HYPURA_CHECK(!header.error().message.empty());
        return 0;
    }
    check_tensors_inside(*header, size);
    hypura::gguf::ModelFile model;
    model.metadata = std::move(header->metadata);
    hypura::gguf::model_shape(model);
    return 0;
}
