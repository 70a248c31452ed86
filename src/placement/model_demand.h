// What a model asks of a machine, from its file alone: bytes by role, layer and format. Nothing is loaded.
//
// What can be streamed is judged by names here and by the captured graph when the model is opened; docs/placement.md
// says where the two differ.
#pragma once

#include "gguf/model_file.h"
#include "gguf/model_shape.h"
#include "gguf/synthetic.h"
#include "placement/stream_plan.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace hypura::placement {

using BytesByFormat = std::map<std::string, uint64_t>;

// A matrix that every token reads whole.
struct DenseMatrix {
    std::string name;
    std::string format;
    gguf::TensorRole role = gguf::TensorRole::kOther;
    int layer = -1;
    uint64_t bytes = 0;
};

// A layer's routed experts: a slot holds one expert, which is read in `slices` reads.
struct ExpertLayer {
    int layer = 0;
    uint32_t experts = 0;
    uint32_t slices = 0;
    uint64_t expert_bytes = 0;
    uint64_t slot_bytes = 0;
    BytesByFormat formats;  // of all experts
};

// A row a token.
struct EmbeddingTable {
    uint64_t bytes = 0;
    uint64_t row_bytes = 0;
};

struct ModelDemand {
    gguf::ModelShape shape;
    uint64_t tensor_bytes = 0;
    uint64_t fixed_bytes = 0;        // small, or read by rows: in memory unless rows are streamed
    uint64_t tied_output_bytes = 0;  // part of the above that every token reads whole all the same
    std::string tied_output_format;
    std::vector<EmbeddingTable> tables;  // of the above, those that are read by rows alone
    std::vector<DenseMatrix> dense;      // in the order in which a token reads them
    std::vector<ExpertLayer> experts;
    uint64_t cache_values_per_token = 0;  // elements of the KV cache a token of context takes: an upper bound where
                                          // layers have a window or share keys
    uint64_t expert_bytes() const;        // all of them
    uint64_t token_expert_bytes() const;  // that one token uses
    uint64_t dense_bytes() const;
};

ModelDemand model_demand(const gguf::ModelFile& file);

// The directory of a model that was never written, for planning; parts, offsets and paths are empty.
gguf::ModelFile directory_of(const gguf::SyntheticModel& model);

// What plan_streaming needs, without budget: strides as stream_layout.cpp lays slots out, with the alignment that most
// disks ask for. `batch_tokens` bounds what one pass can need.
StreamProblem stream_problem(const ModelDemand& demand, uint32_t batch_tokens);

}  // namespace hypura::placement
