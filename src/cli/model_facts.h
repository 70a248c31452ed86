// What `plan` shows first: facts from the file's header alone, as text and as JSON.
#pragma once

#include "gguf/model_file.h"
#include "gguf/model_shape.h"

#include <cstdint>
#include <map>
#include <string>

namespace hypura::cli {

struct TensorGroup {
    uint64_t tensors = 0;
    uint64_t bytes = 0;
};

struct ModelFacts {
    gguf::ModelShape shape;
    std::vector<gguf::Part> parts;
    uint64_t tensor_bytes = 0;
    std::map<std::string, TensorGroup> by_type;  // "q4_K"
    std::map<std::string, TensorGroup> by_role;  // "experts"
};

ModelFacts model_facts(const gguf::ModelFile& file);

std::string facts_text(const ModelFacts& facts);
std::string facts_json(const ModelFacts& facts);

}  // namespace hypura::cli
