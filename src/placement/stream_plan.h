// Which weights stay in memory and which are streamed, for one memory budget on one device.
//
// Pure arithmetic over sizes; the engine fills in the problem from the captured graph (what *can* be streamed) and
// applies the answer. Rules, in order (docs/placement.md has the reasons and a worked example):
//   1. what cannot be streamed stays in memory;
//   2. dense matrices are needed whole by every token, experts only top_k of experts: dense weights have the first
//   claim
//      on memory, expert slots get the rest, but never less than the experts of one pass;
//   3. where dense weights must be streamed, feed-forward ones go first, and the streamed ones are spread evenly over
//   the
//      layers, so that every layer's reads have a layer's computation to hide behind;
//   4. slots are shared out to the classes in proportion to the bytes that they serve;
//   5. of a table that is read by rows, only those that were read last stay in memory, unless there is room for all
//      that the model has.
#pragma once

#include "base/status.h"

#include <cstdint>
#include <string>
#include <vector>

namespace hypura::placement {

// A matrix that every pass reads whole, in graph order.
struct DenseTensor {
    uint64_t bytes = 0;         // to keep it in memory
    uint64_t slot_bytes = 0;    // stride of the slot that could hold it: equal strides share a class
    bool feed_forward = false;  // streamed before anything else
};

// A layer's routed experts.
struct ExpertGroup {
    uint64_t slot_bytes = 0;    // stride of a slot for one expert: equal strides share a class
    uint64_t expert_bytes = 0;  // payload of one expert
    uint32_t experts = 0;
    uint32_t pass_experts = 0;  // most experts that one pass can need: min(experts, top_k * batch tokens)
    int layer = 0;              // groups of one layer may be in use at the same time
};

// A table of which a token reads a row: embeddings.
struct RowTable {
    uint64_t bytes = 0;       // to keep it in memory
    uint64_t kept_bytes = 0;  // for the rows that were read last; at most `bytes`
};

// RowTable::kept_bytes of a table whose rows take `row_bytes`, where a pass reads at most `batch_tokens` of them: twice
// the pages that those can lie in, at least 4 MiB. All of the table where that would not save half of it.
uint64_t kept_row_bytes(uint64_t table_bytes, uint64_t row_bytes, uint32_t batch_tokens);

struct StreamProblem {
    uint64_t weights_bytes = 0;  // the budget for all weights in memory
    uint64_t fixed_bytes = 0;    // weights that cannot be streamed
    uint32_t ring_slots = 3;     // slots a dense class: one in use, the rest ahead
    std::vector<DenseTensor> dense;
    std::vector<ExpertGroup> experts;
    std::vector<RowTable> tables;
};

struct PlannedClass {
    uint64_t slot_bytes = 0;
    uint32_t slots = 0;
};

struct StreamPlan {
    std::vector<bool> dense_streamed;    // parallel to StreamProblem::dense
    std::vector<uint32_t> dense_class;   // index into classes; meaningful where streamed
    std::vector<uint32_t> expert_class;  // parallel to StreamProblem::experts
    std::vector<PlannedClass> classes;
    bool rows_streamed = false;   // of all tables; else these are in memory whole
    uint64_t resident_bytes = 0;  // fixed and unstreamed dense weights, and what tables take
    uint64_t slot_bytes = 0;      // all classes
};

// kBudgetTooSmall, with the smallest budget that works, when even streaming everything does not fit.
Result<StreamPlan> plan_streaming(const StreamProblem& problem);

// There is a slot for everything that `plan` streams: each is read once.
bool never_evicts(const StreamProblem& problem, const StreamPlan& plan);

// What no plan can do without beside slots: what is fixed, and the rows that tables keep at least.
uint64_t smallest_fixed_bytes(const StreamProblem& problem);

// The least weights_bytes for which plan_streaming succeeds.
uint64_t smallest_weights_bytes(const StreamProblem& problem);

}  // namespace hypura::placement
