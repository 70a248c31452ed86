#include "engine/stream_layout.h"

#include "base/bytes.h"
#include "gguf/model_shape.h"

#include <algorithm>
#include <format>
#include <map>
#include <set>

namespace hypura::engine {
namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kUnalignedDataBytes = 64;  // where a slice begins that reads cannot place directly

// Lays slices out one behind another. A slice whose every instance starts at the same residue of the disk's alignment
// is placed at that residue, so that reads land in place; for others the reader needs slack around it, and copies.
class SlotCursor {
public:
    explicit SlotCursor(std::span<const storage::DirectFile> files) : files_(files) {}

    uint64_t place(const gguf::TensorInfo& info, uint64_t slice_bytes) {
        const auto& file = files_[info.part];
        const uint64_t alignment = std::max(file.offset_alignment(), file.memory_alignment());
        const bool same_residue = slice_bytes == info.size_bytes || is_aligned(slice_bytes, alignment);
        return same_residue ? place_direct(info, slice_bytes, alignment) : place_with_slack(slice_bytes);
    }
    uint64_t slot_bytes() const { return align_up(next_, kPageBytes); }

private:
    uint64_t place_direct(const gguf::TensorInfo& info, uint64_t slice_bytes, uint64_t alignment) {
        const uint64_t at = align_up(next_, kPageBytes) + (info.file_offset & (alignment - 1));
        next_ = align_up(at + slice_bytes, alignment);
        return at;
    }
    uint64_t place_with_slack(uint64_t slice_bytes) {
        const uint64_t at = align_up(next_ + storage::BlockReader::kSlackBytes, kUnalignedDataBytes);
        next_ = at + slice_bytes + storage::BlockReader::kSlackBytes;
        return at;
    }

    std::span<const storage::DirectFile> files_;
    uint64_t next_ = 0;
};

int layer_of(const CapturedWeight& weight) { return gguf::tensor_place(weight.info->name).layer; }

bool agree(const std::vector<CapturedWeight>& weights) {
    const auto same = [&](const CapturedWeight& weight) {
        return weight.tensor->ne[2] == weights[0].tensor->ne[2] && layer_of(weight) == layer_of(weights[0]);
    };
    return std::ranges::all_of(weights, same);
}

ExpertGroupLayout lay_out_group(const std::vector<CapturedWeight>& weights,
                                std::span<const storage::DirectFile> files) {
    ExpertGroupLayout group{.ids_name = weights[0].ids_name, .ids_occurrence = weights[0].ids_occurrence};
    group.ids_repeats = weights[0].ids_repeats;
    group.router = weights[0].router;
    group.layer = layer_of(weights[0]);
    group.experts = static_cast<uint32_t>(weights[0].tensor->ne[2]);
    SlotCursor cursor(files);
    for (const CapturedWeight& weight : weights) {
        const uint64_t slice_bytes = weight.info->size_bytes / group.experts;
        group.parts.push_back({weight.tensor, weight.info, cursor.place(*weight.info, slice_bytes), slice_bytes});
        group.readers += weight.readers;
    }
    group.slot_bytes = cursor.slot_bytes();
    return group;
}

DenseLayout lay_out_dense(const CapturedWeight& weight, std::span<const storage::DirectFile> files) {
    const gguf::TensorPlace place = gguf::tensor_place(weight.info->name);
    SlotCursor cursor(files);
    DenseLayout dense{.layer = place.layer, .feed_forward = place.role == gguf::TensorRole::kFeedForward};
    dense.part = {weight.tensor, weight.info, cursor.place(*weight.info, weight.info->size_bytes),
                  weight.info->size_bytes};
    dense.slot_bytes = cursor.slot_bytes();
    return dense;
}

void add_table(StreamLayout& layout, CapturedWeight& weight, uint32_t batch_tokens, bool small_tables) {
    const uint64_t table_bytes = weight.info->size_bytes;
    const uint64_t row_bytes = weight.tensor->nb[1];
    const uint64_t kept_bytes = placement::kept_row_bytes(table_bytes, row_bytes, batch_tokens);
    if (kept_bytes < table_bytes || small_tables) {
        layout.tables.push_back({weight, row_bytes, kept_bytes});
        return;
    }
    weight.other_reader = "few rows";
    layout.fixed.push_back(weight);
}

// The expert tensors by the ids tensor that routes them, in reading order.
std::vector<std::vector<CapturedWeight>> routed_together(const std::vector<CapturedWeight>& weights) {
    std::vector<std::vector<CapturedWeight>> groups;
    std::map<std::pair<std::string, uint32_t>, size_t> index;
    for (const CapturedWeight& weight : weights) {
        if (weight.use != WeightUse::kExperts || weight.tensor == nullptr) continue;
        const auto [found, is_new] = index.emplace(std::pair(weight.ids_name, weight.ids_occurrence), groups.size());
        if (is_new) groups.emplace_back();
        groups[found->second].push_back(weight);
    }
    return groups;
}

std::string resident_note(const CapturedWeight& weight) {
    return std::format("{} ({}) stays in memory: {}", weight.info->name, format_bytes(weight.info->size_bytes),
                       weight.other_reader);
}

// Those that one would expect to be streamed; the others are vectors, mostly.
bool deserves_a_note(const CapturedWeight& weight) {
    return weight.info->size_bytes >= kMiB || gguf::tensor_place(weight.info->name).role == gguf::TensorRole::kExpert;
}

std::vector<std::string> resident_notes(const std::vector<CapturedWeight>& fixed) {
    std::vector<std::string> notes;
    std::set<std::string> reasons;
    size_t others = 0;
    uint64_t other_bytes = 0;
    for (const CapturedWeight& weight : fixed) {
        if (deserves_a_note(weight)) {
            notes.push_back(resident_note(weight));
            continue;
        }
        ++others;
        other_bytes += weight.info->size_bytes;
        reasons.insert(weight.other_reader);
    }
    if (others == 0) return notes;
    constexpr std::string_view kReadBy = "read by ";
    std::string together;
    for (const std::string& reason : reasons) {
        const bool said = together.contains(kReadBy) && reason.starts_with(kReadBy);
        together += (together.empty() ? "" : ", ") + (said ? reason.substr(kReadBy.size()) : reason);
    }
    notes.push_back(
        std::format("{} small weights ({}) stay in memory: {}", others, format_bytes(other_bytes), together));
    return notes;
}

}  // namespace

StreamLayout lay_out(const GraphCapture& capture, std::span<const storage::DirectFile> files, uint32_t batch_tokens,
                     bool small_tables) {
    StreamLayout layout;
    for (CapturedWeight& weight : capture.weights()) {
        for (ggml_tensor* tensor : weight.on_device) layout.device.push_back({tensor, weight.info});
        const bool device_alone = weight.tensor == nullptr && !weight.on_device.empty();
        if (device_alone) continue;
        if (weight.use == WeightUse::kDense)
            layout.dense.push_back(lay_out_dense(weight, files));
        else if (weight.use == WeightUse::kRows)
            add_table(layout, weight, batch_tokens, small_tables);
        else if (weight.use == WeightUse::kOther)
            layout.fixed.push_back(weight);
    }
    for (auto& weights : routed_together(capture.weights())) {
        if (agree(weights)) {
            layout.groups.push_back(lay_out_group(weights, files));
            continue;
        }
        for (CapturedWeight& weight : weights) weight.other_reader = "several layers have one routing name";
        layout.fixed.insert(layout.fixed.end(), weights.begin(), weights.end());
    }
    layout.notes = resident_notes(layout.fixed);
    return layout;
}

placement::StreamProblem stream_problem(const StreamLayout& layout, uint32_t batch_tokens, uint32_t experts_used) {
    placement::StreamProblem problem;
    for (const CapturedWeight& weight : layout.fixed) problem.fixed_bytes += weight.info->size_bytes;
    for (const TableLayout& table : layout.tables)
        problem.tables.push_back({table.weight.info->size_bytes, table.kept_bytes});
    for (const DenseLayout& dense : layout.dense)
        problem.dense.push_back({dense.part.bytes, dense.slot_bytes, dense.feed_forward});
    for (const ExpertGroupLayout& group : layout.groups) {
        uint64_t expert_bytes = 0;
        for (const SlotPart& part : group.parts) expert_bytes += part.bytes;
        const uint64_t routed = experts_used == 0 ? group.experts : uint64_t{batch_tokens} * experts_used;
        const auto pass_experts = static_cast<uint32_t>(std::min<uint64_t>(group.experts, routed));
        problem.experts.push_back({group.slot_bytes, expert_bytes, group.experts, pass_experts, group.layer});
    }
    return problem;
}

residency::PageSpec expert_page(const ExpertGroupLayout& group, uint32_t expert, uint32_t slot_class) {
    residency::PageSpec page{
        slot_class, static_cast<uint32_t>(std::max(group.layer, 0)), {}, static_cast<int32_t>(expert)};
    for (const SlotPart& part : group.parts)
        page.slices.push_back({part.info->part, part.info->file_offset + part.bytes * expert, part.bytes,
                               part.slot_offset, part.info->name});
    return page;
}

residency::PageSpec dense_page(const DenseLayout& dense, uint32_t slot_class) {
    const SlotPart& part = dense.part;
    return {slot_class,
            static_cast<uint32_t>(std::max(dense.layer, 0)),
            {{part.info->part, part.info->file_offset, part.bytes, part.slot_offset, part.info->name}}};
}

}  // namespace hypura::engine
