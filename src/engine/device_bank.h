// The device slots of one group of experts: which experts are in the device's memory, and where.
//
// A group's tensors [cols, rows, experts] lie in buffers of their own on the device: a bank. A bank that holds all of
// its experts is loaded once and never touched again: the router's ids are slot numbers then. Of a smaller one the
// tensors have as many matrices as there are slots, and every routing assigns slots to the experts that it names. The
// expert that leaves is the one that was used least, older uses counting less; on the tier above RAM this beats
// recency, since the RAM slots beneath keep what was used lately (docs/residency.md).
#pragma once

#include "base/status.h"
#include "engine/device_stream.h"
#include "engine/device_writer.h"
#include "engine/stream_layout.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace hypura::engine {

class BatchStaging;

class DeviceBank {
public:
    // Allocates the slots and rebinds the group's tensors to them. `most_ids`: ids of the largest batch.
    static Result<std::unique_ptr<DeviceBank>> create(DeviceStream& stream, const ExpertGroupLayout& group,
                                                      uint32_t slots, uint32_t most_ids);

    DeviceStream& stream() const { return *stream_; }
    uint32_t slots() const { return static_cast<uint32_t>(expert_in_.size()); }
    uint32_t experts() const { return static_cast<uint32_t>(slot_of_.size()); }
    bool is_whole() const { return slots() == experts(); }
    bool has_free_slots() const { return std::ranges::contains(expert_in_, -1); }
    uint64_t bytes() const;

    struct Arrival {
        uint32_t expert = 0;
        uint32_t slot = 0;
    };
    // Gives every expert that `distinct` names a slot; arrivals() are those that have to be uploaded to it. False, and
    // nothing changes, where there are more of them than slots.
    bool assign(std::span<const uint32_t> distinct);
    std::span<const Arrival> arrivals() const { return arrivals_; }
    // Of more experts than there are slots: gives free slots to those that come first in `distinct`; arrivals() are
    // these. Nothing is evicted.
    void assign_free(std::span<const uint32_t> distinct);
    // The arrivals of the last assignment did not come: forget them.
    void undo_arrivals();

    int32_t slot_of(uint32_t expert) const { return slot_of_[expert]; }  // -1: not on the device
    int32_t expert_in(uint32_t slot) const { return expert_in_[slot]; }  // -1: none

    // Between two routings. All slots, in the order in which what they hold would leave.
    void list_coldest(std::vector<uint32_t>& slots) const;
    // Somebody wrote that expert to that slot; or something that is of no use.
    void adopt(uint32_t expert, uint32_t slot) { put(expert, slot); }
    void vacate(uint32_t slot);

    // What to write where, for that part of an expert to lie in that slot.
    DeviceWriter::Matrix matrix(size_t part, uint32_t slot, const std::byte* data) const {
        return {parts_[part].tensor, parts_[part].bytes * slot, data, parts_[part].bytes};
    }
    ggml_tensor* tensor(size_t part) const { return parts_[part].tensor; }
    uint64_t matrix_bytes(size_t part) const { return parts_[part].bytes; }

    // The index tensor, shaped like `ids`, with the slots of `experts`: what MUL_MAT_ID reads instead of the router's
    // ids.
    ggml_tensor* fill_index(const ggml_tensor* ids, std::span<const int32_t> experts) {
        return fill_index(ids, experts, slot_of_);
    }
    // The same for matrices that lie elsewhere: `matrix_of` every expert.
    ggml_tensor* fill_index(const ggml_tensor* ids, std::span<const int32_t> experts,
                            std::span<const int32_t> matrix_of);

    // Where batches are put together that name more experts than there are slots; null: nowhere.
    void stage_batches_in(BatchStaging* staging) { staging_ = staging; }
    BatchStaging* staging() const { return staging_; }

private:
    struct Part {
        ggml_tensor* tensor = nullptr;
        uint64_t bytes = 0;  // of one matrix
        BufferHandle buffer;
    };

    explicit DeviceBank(DeviceStream& stream) : stream_(&stream) {}
    Status bind(const SlotPart& part, uint32_t slots);
    Status make_index(uint32_t most_ids);
    double heat_in(uint32_t slot) const;
    std::optional<uint32_t> coldest_slot() const;
    void put(uint32_t expert, uint32_t slot);

    DeviceStream* stream_;
    BatchStaging* staging_ = nullptr;
    std::vector<Part> parts_;
    BufferHandle index_buffer_;
    GgmlContextHandle index_context_;
    ggml_tensor* index_ = nullptr;
    std::vector<int32_t> index_values_;

    std::vector<int32_t> slot_of_;    // by expert
    std::vector<int32_t> expert_in_;  // by slot; -1: free
    std::vector<double> heat_;        // by expert: uses, older ones counting less
    std::vector<uint8_t> in_use_;     // by slot: by the routing in hand
    std::vector<Arrival> arrivals_;
    double heat_of_a_use_ = 1;
};

}  // namespace hypura::engine
