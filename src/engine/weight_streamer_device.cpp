// The part of WeightStreamer that keeps experts in device slots, above the RAM slots and the file.
//
// A routing whose experts fit the group's device slots costs one cut of the graph: the absent ones are uploaded, slot
// numbers are written, and the layer runs on the device as libllama scheduled it. A batch that names more experts than
// that is computed on the device as well, node by node: first by the experts that are there, then by the others as they
// pass through the staging memory.
#include "engine/weight_streamer.h"

#include <algorithm>
#include <utility>

namespace hypura::engine {

// Gives the routed experts device slots, or leaves them to be computed in pieces.
Status WeightStreamer::place_on_device(Group& group, const ggml_tensor* ids) {
    group.in_pieces = !group.bank->assign(distinct_);
    device_counters_.batches_in_pieces += group.in_pieces ? 1 : 0;
    return group.in_pieces ? Status{} : bring_to_device(group, ids);
}

// A copy in the host's memory of what the router saw; null where nobody would look at it.
const ggml_tensor* WeightStreamer::fetch_input(const Group& group, const ggml_tensor* input) {
    if (input == nullptr || is_on_host(input)) return input;
    if (!lookahead_.wants_input(static_cast<size_t>(&group - groups_.data()), cache_)) return nullptr;
    input_data_.resize(ggml_nbytes(input));
    group.bank->stream().read(input, input_data_.data(), input_data_.size());
    host_input_->type = input->type;
    std::copy_n(input->ne, GGML_MAX_DIMS, host_input_->ne);
    std::copy_n(input->nb, GGML_MAX_DIMS, host_input_->nb);
    host_input_->data = input_data_.data();
    return host_input_;
}

Status WeightStreamer::bring_to_device(Group& group, const ggml_tensor* ids) {
    group.index = group.bank->fill_index(ids, group.ids);
    if (group.bank->arrivals().empty()) return {};
    Status uploaded = upload_arrivals(group);
    group.bank->stream().wait();
    if (!uploaded) group.bank->undo_arrivals();
    cache_.release(group.pinned);
    group.pinned.clear();
    return uploaded;
}

// Part by part, as the reads arrive; uploads run while later reads are under way.
Status WeightStreamer::upload_arrivals(Group& group) {
    HYPURA_TRY(cache_.poll());
    const std::span<const DeviceBank::Arrival> arrivals = group.bank->arrivals();
    const size_t parts = cache_.page_spec(group.first_page).slices.size();
    for (size_t part = 0; part < parts; ++part) {
        for (const DeviceBank::Arrival& arrival : arrivals) {
            const residency::PageId page = group.first_page + arrival.expert;
            for (;;) {
                HYPURA_ASSIGN(const bool here, cache_.has_slice(page, part));
                if (here) break;
                HYPURA_TRY(cache_.wait_for_more());
            }
            group.bank->upload(part, arrival.slot, slice_memory(page, part));
            device_counters_.uploaded_bytes += group.bank->matrix_bytes(part);
        }
    }
    return {};
}

const std::byte* WeightStreamer::slice_memory(residency::PageId page, size_t slice) const {
    const residency::PageSpec& spec = cache_.page_spec(page);
    return cache_.slot_memory(spec.slot_class, cache_.slot_of(page)) + spec.slices[slice].slot_offset;
}

// Where the node runs on another device than the router, it reads a copy of the ids.
bool WeightStreamer::is_routing(const Group& group, const ggml_tensor* ids) const {
    if (group.readers_left == 0) return false;
    return ids == group.routed_by || (is_copy(ids) && original_name(ids) == group.routed_by->name);
}

// True: computed() has to compute it.
bool WeightStreamer::redirect_on_device(ggml_tensor* node, const ExpertPart& part) {
    const Group& group = *part.group;
    if (!group.in_pieces) {
        change(node, group.index, node->op);
        return false;
    }
    change(node, node->src[2], GGML_OP_NONE);
    pending_ = {node, part};
    return true;
}

Status WeightStreamer::compute_on_device(const Pending& pending) {
    const Group& group = *pending.part.group;
    collect_rows_on_device(group);
    HYPURA_TRY(group.bank->stream().multiply(pending.node, group.bank->tensor(pending.part.slice), rows_));
    awaited_ = group.pinned;
    while (!awaited_.empty()) {
        HYPURA_TRY(await_piece(pending.part));
        HYPURA_TRY(multiply_arrived(pending));
    }
    return {};
}

// As many experts at a time as the staging memory holds.
Status WeightStreamer::multiply_arrived(const Pending& pending) {
    const Group& group = *pending.part.group;
    DeviceStream& stream = group.bank->stream();
    const uint64_t bytes = group.bank->matrix_bytes(pending.part.slice);
    ggml_tensor* const staging = stream.staging_like(pending.node->src[0], bytes);
    if (staging == nullptr)
        return fail(ErrorCode::kOutOfMemory, "{}: no room on the device for one expert of a batch; raise --vram",
                    pending.node->src[0]->name);
    const auto columns = static_cast<size_t>(group.routed_by->ne[0]);
    for (uint32_t expert = 0; expert < group.experts;) {
        staging_slot_.assign(group.experts, -1);
        for (int32_t slot = 0; expert < group.experts && slot < staging->ne[2]; ++expert) {
            if (arrived_[expert] == 0) continue;
            staging_slot_[expert] = slot;
            stream.upload(staging, bytes * static_cast<uint64_t>(slot),
                          slice_memory(group.first_page + expert, pending.part.slice), bytes);
            device_counters_.uploaded_bytes += bytes;
            ++slot;
        }
        stream.wait();
        rows_.clear();
        for (size_t i = 0; i < group.ids.size(); ++i)
            if (const int32_t slot = staging_slot_[static_cast<size_t>(group.ids[i])]; slot >= 0)
                rows_.push_back({slot, static_cast<uint32_t>(i % columns), static_cast<uint32_t>(i / columns)});
        HYPURA_TRY(stream.multiply(pending.node, staging, rows_));
    }
    return {};
}

// The routed rows whose expert has a device slot.
void WeightStreamer::collect_rows_on_device(const Group& group) {
    rows_.clear();
    const auto columns = static_cast<size_t>(group.routed_by->ne[0]);
    for (size_t i = 0; i < group.ids.size(); ++i)
        if (const int32_t slot = group.bank->slot_of(static_cast<uint32_t>(group.ids[i])); slot >= 0)
            rows_.push_back({slot, static_cast<uint32_t>(i % columns), static_cast<uint32_t>(i / columns)});
}

}  // namespace hypura::engine
