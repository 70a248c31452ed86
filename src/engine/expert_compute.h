// Computes a MUL_MAT_ID node piece by piece, as its experts arrive: the matrices that are in memory are multiplied
// while the others are still being read.
//
// A piece is a set of routed rows. Their inputs are gathered, a graph of one MUL_MAT_ID of our own runs over them on a
// CPU backend, and the results are scattered to where the node's would be. ggml computes an output row from one input
// row and one expert, by kernels that it chooses by how many rows the expert has in the call (from eight on others than
// below). So all rows of an expert go into one piece, and the result is the node's own, bit for bit (docs/seam.md,
// E16).
#pragma once

#include "base/status.h"
#include "engine/llama_handles.h"

#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace hypura::engine {

// One (token, column of the ids) pair of a routing, and the slot that its expert lies in.
struct RoutedRow {
    int32_t slot = 0;
    uint32_t column = 0;
    uint32_t token = 0;
};

class ExpertCompute {
public:
    // Uses as many threads as libllama's context, so that both share one team (OpenMP keeps it by calling thread).
    // `team_is_busy`: libllama computes layers with it, so that its threads are awake between our calls. Otherwise
    // small projections are the calling thread's alone.
    static Result<ExpertCompute> create(uint32_t threads, bool team_is_busy = true);

    // Writes the rows of `node` = MUL_MAT_ID(src[0], src[1], …) that `rows` names. Sources and result are in host
    // memory, src[0] is rebound to slots; `rows` has all rows of the node that its slots have. Errors: kInternal,
    // should ggml refuse its own graph.
    Status compute(ggml_tensor* node, std::span<const RoutedRow> rows);

    // weight * inputs: [out, rows] for inputs of [weight's columns, rows]. Valid until the next call.
    Result<std::span<const float>> project(const ggml_tensor* weight, std::span<const float> inputs);

private:
    ExpertCompute() = default;
    void gather(const ggml_tensor* input, std::span<const RoutedRow> rows);
    void scatter(ggml_tensor* node, std::span<const RoutedRow> rows) const;
    Status multiply(ggml_tensor* node, size_t rows);
    GgmlContextHandle new_graph_context();
    Status run(ggml_backend_t backend, ggml_context* context, ggml_tensor* product);

    BackendHandle backend_;
    BackendHandle alone_;                  // of the calling thread; null where the team is busy
    std::vector<RoutedRow> by_expert_;     // rows in the order in which they are computed
    std::vector<std::byte> graph_memory_;  // of the context that a graph is built in
    std::vector<float> inputs_;            // [cols, rows]
    std::vector<float> results_;           // [out, rows]
    std::vector<int32_t> slots_;           // [rows]
};

}  // namespace hypura::engine
