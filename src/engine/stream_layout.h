// What of a captured model can be streamed, and how a slot for it is laid out.
#pragma once

#include "engine/graph_capture.h"
#include "placement/stream_plan.h"
#include "residency/slot_cache.h"
#include "storage/reader.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace hypura::engine {

// A tensor's place in the slots of its group.
struct SlotPart {
    ggml_tensor* tensor = nullptr;
    const gguf::TensorInfo* info = nullptr;
    uint64_t slot_offset = 0;  // of its first byte (experts: of the expert's slice)
    uint64_t bytes = 0;        // of one slice
};

// The expert tensors that one ids node routes: slot = [gate | up | down], say, of one expert.
struct ExpertGroupLayout {
    std::string ids_name;
    uint32_t ids_occurrence = 0;  // as in CapturedWeight
    uint32_t ids_repeats = 1;
    int layer = -1;
    uint32_t experts = 0;
    uint32_t readers = 0;  // MUL_MAT_ID nodes a graph
    RouterTrace router;
    std::vector<SlotPart> parts;
    uint64_t slot_bytes = 0;
};

struct DenseLayout {
    SlotPart part;
    int layer = -1;
    bool feed_forward = false;
    uint64_t slot_bytes = 0;
};

// A table that is read by rows alone.
struct TableLayout {
    CapturedWeight weight;
    uint64_t row_bytes = 0;
    uint64_t kept_bytes = 0;  // of the rows that were read last, where they are streamed
};

// A weight that lies whole in a device's memory, and is loaded there.
struct DeviceWeight {
    ggml_tensor* tensor = nullptr;
    const gguf::TensorInfo* info = nullptr;
};

struct StreamLayout {
    std::vector<ExpertGroupLayout> groups;  // in reading order
    std::vector<DenseLayout> dense;         // in reading order
    std::vector<TableLayout> tables;
    std::vector<CapturedWeight> fixed;
    std::vector<DeviceWeight> device;
    std::vector<std::string> notes;  // which weights stay in memory, and why
};

// `files` says how reads must be aligned, part by part. `batch_tokens`: most rows of a table that a pass reads. Tables
// too small to save memory are `fixed`, unless `small_tables`: then they are streamed like large ones, for tests.
StreamLayout lay_out(const GraphCapture& capture, std::span<const storage::DirectFile> files, uint32_t batch_tokens,
                     bool small_tables);

// `batch_tokens` and `experts_used` (top-k; 0: unknown) bound what one pass can need.
placement::StreamProblem stream_problem(const StreamLayout& layout, uint32_t batch_tokens, uint32_t experts_used);

// The reads that fill a slot with `expert`, or with the matrix.
residency::PageSpec expert_page(const ExpertGroupLayout& group, uint32_t expert, uint32_t slot_class);
residency::PageSpec dense_page(const DenseLayout& dense, uint32_t slot_class);

}  // namespace hypura::engine
