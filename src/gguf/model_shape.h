// Typed facts from the metadata that planning and reporting need. Every field is optional in the file; zero means that
// the file does not say and that libllama has no default for it.
#pragma once

#include "gguf/model_file.h"

#include <cstdint>
#include <string>

namespace hypura::gguf {

struct ModelShape {
    std::string architecture;  // "qwen3moe"
    std::string name;          // general.name
    uint64_t layers = 0;
    uint64_t embedding = 0;     // model width
    uint64_t experts = 0;       // routed experts a layer; 0 in a dense model
    uint64_t experts_used = 0;  // top-k
    uint64_t heads = 0;         // where layers differ: the first layer's that has any
    uint64_t kv_heads = 0;
    uint64_t key_length = 0;  // per head
    uint64_t value_length = 0;
    uint64_t context_train = 0;
    uint64_t vocabulary = 0;  // tokens
};

ModelShape model_shape(const ModelFile& model);

// What a tensor is for, judged by its name alone. Only planning before a load relies on this; the engine asks the
// graph.
enum class TensorRole { kExpert, kFeedForward, kAttention, kEmbedding, kOutput, kNorm, kOther };

struct TensorPlace {
    TensorRole role = TensorRole::kOther;
    int layer = -1;  // "blk.N."; -1 outside the layers
};

TensorPlace tensor_place(std::string_view tensor_name);

}  // namespace hypura::gguf
