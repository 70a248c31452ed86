// Shares the devices' memory out to groups of experts, once libllama has taken its part of it. Internal to this folder.
#pragma once

#include "engine/runtime.h"
#include "engine/stream_layout.h"

#include <cstdint>
#include <vector>

namespace hypura::engine {

struct DeviceShare {
    // A group and the device slots that it gets.
    struct Bank {
        ExpertGroupLayout group;
        ggml_backend_dev_t device = nullptr;
        uint32_t slots = 0;
    };
    std::vector<Bank> whole;                      // groups whose experts all fit: no longer streamed
    std::vector<Bank> partial;                    // parallel to the groups that are left in the layout; slots 0: none
    std::vector<placement::BankStaging> staging;  // by device of the runtime
    uint32_t most_ids = 0;                        // of one group in the largest batch
};

// Takes the groups that fit whole out of `layout`. `ram_bytes`: for RAM slots beneath. With no devices: nothing is
// shared out.
DeviceShare share_out_devices(const Runtime& runtime, const EngineOptions& options, uint64_t ram_bytes,
                              StreamLayout& layout);

// Allocates what was shared out, rebinds the tensors, and adds the weights of whole groups to what is loaded on
// devices. The result is parallel to the layout's groups; the runtime owns the banks.
Result<std::vector<DeviceBank*>> make_banks(Runtime& runtime, const DeviceShare& share, StreamLayout& layout);

// Pinned where every group has device slots, so that no product on the processor needs the slots in one piece.
residency::SlotMemory slot_memory(const Runtime& runtime, const std::vector<DeviceBank*>& banks);

}  // namespace hypura::engine
