#include "engine/device_share.h"

#include "base/bytes.h"
#include "gguf/model_shape.h"

#include <algorithm>
#include <map>
#include <ranges>
#include <utility>

namespace hypura::engine {
namespace {

// Vulkan reaches 4 GiB behind one tensor; pools of 4.2 GiB died.
constexpr uint64_t kMostBankBytes = 4 * kGiB - 16 * kMiB;
constexpr uint64_t kPinnedPieceBytes = kGiB;  // drivers refuse pieces of several GiB

ggml_backend_dev_t device_of(const ggml_tensor* tensor) {
    return ggml_backend_buft_get_device(ggml_backend_buffer_get_type(tensor->buffer));
}

// Experts belong where the other weights of their layer are.
std::map<int, ggml_backend_dev_t> devices_by_layer(const StreamLayout& layout) {
    std::map<int, ggml_backend_dev_t> devices;
    for (const DeviceWeight& weight : layout.device)
        if (const int layer = gguf::tensor_place(weight.info->name).layer; layer >= 0)
            devices[layer] = device_of(weight.tensor);
    return devices;
}

uint64_t weights_on(ggml_backend_dev_t device, const StreamLayout& layout) {
    uint64_t bytes = 0;
    for (const DeviceWeight& weight : layout.device)
        if (device_of(weight.tensor) == device) bytes += weight.info->size_bytes;
    return bytes;
}

// What libllama left of the device, and of what the user allows.
uint64_t room_on(ggml_backend_dev_t device, const Runtime& runtime, const EngineOptions& options,
                 const StreamLayout& layout) {
    const uint64_t free_bytes = usable_device_bytes(device);
    if (options.vram_bytes == 0) return free_bytes;
    const uint64_t devices = runtime.devices.size();
    const placement::DevicePlan& plan = runtime.device_plan;
    const uint64_t used_bytes = weights_on(device, layout) + plan.cache_bytes / devices + plan.compute_bytes;
    const uint64_t allowed_bytes = options.vram_bytes / devices;
    return std::min(free_bytes, allowed_bytes - std::min(allowed_bytes, used_bytes));
}

// `smallest`: one slot less for a group that would need all of them.
placement::BankRequest request_of(const ExpertGroupLayout& group, uint32_t experts_used, bool smallest) {
    placement::BankRequest request{.experts = group.experts, .least_slots = std::min(group.experts, experts_used)};
    if (smallest && request.least_slots == group.experts && group.experts > 1) --request.least_slots;
    for (const SlotPart& part : group.parts) {
        request.expert_bytes += part.bytes;
        request.matrix_bytes = std::max(request.matrix_bytes, part.bytes);
    }
    return request;
}

// One token's experts in every layer.
uint64_t smallest_room(const std::vector<placement::BankRequest>& requests) {
    uint64_t bytes = 0;
    for (const placement::BankRequest& request : requests) bytes += request.expert_bytes * request.least_slots;
    return bytes;
}

// As few slots as can work at all, so that `verify` sees every path.
placement::StagedBanks plan_least(const std::vector<placement::BankRequest>& requests, placement::BankRoom room,
                                  const placement::BankRates& rates) {
    room.device_bytes = smallest_room(requests);
    return {placement::plan_banks(requests, room, rates), placement::plan_staging(requests, room.device_bytes)};
}

std::vector<DeviceShare::Bank> banks_without_slots(const StreamLayout& layout) {
    const std::map<int, ggml_backend_dev_t> devices = devices_by_layer(layout);
    std::vector<DeviceShare::Bank> banks;
    for (const ExpertGroupLayout& group : layout.groups) {
        const auto device = devices.find(group.layer);
        banks.push_back({group, device == devices.end() ? nullptr : device->second, 0});
    }
    return banks;
}

// Whole groups are no longer streamed.
void take_whole_groups(std::vector<DeviceShare::Bank> banks, DeviceShare& share, StreamLayout& layout) {
    layout.groups.clear();
    for (DeviceShare::Bank& bank : banks) {
        const bool whole = bank.slots == bank.group.experts;
        if (!whole) layout.groups.push_back(bank.group);
        (whole ? share.whole : share.partial).push_back(std::move(bank));
    }
}

}  // namespace

DeviceShare share_out_devices(const Runtime& runtime, const EngineOptions& options, uint64_t ram_bytes,
                              StreamLayout& layout) {
    DeviceShare share;
    const auto experts_used = static_cast<uint32_t>(std::max<uint64_t>(runtime.shape.experts_used, 1));
    share.most_ids = runtime.report.batch_tokens * experts_used;
    std::vector<DeviceShare::Bank> banks = banks_without_slots(layout);
    for (ggml_backend_dev_t device : runtime.devices) {
        const auto is_here = [&](const DeviceShare::Bank& bank) { return bank.device == device; };
        std::vector<placement::BankRequest> requests;
        for (const DeviceShare::Bank& bank : banks | std::views::filter(is_here))
            requests.push_back(request_of(bank.group, experts_used, options.smallest_pool));
        const placement::BankRoom room{room_on(device, runtime, options, layout), kMostBankBytes, ram_bytes};
        const placement::StagedBanks planned =
            device_kind(device) == "remote" ? placement::StagedBanks{placement::plan_whole_banks(requests, room), {}}
            : options.smallest_pool         ? plan_least(requests, room, runtime.bank_rates)
                                            : placement::plan_staged_banks(requests, room, runtime.bank_rates);
        share.staging.push_back(planned.staging);
        size_t next = 0;
        for (DeviceShare::Bank& bank : banks | std::views::filter(is_here)) bank.slots = planned.slots[next++];
    }
    take_whole_groups(std::move(banks), share, layout);
    return share;
}

Result<std::vector<DeviceBank*>> make_banks(Runtime& runtime, const DeviceShare& share, StreamLayout& layout) {
    std::map<ggml_backend_dev_t, DeviceStream*> streams;
    std::map<ggml_backend_dev_t, BatchStaging*> stagings;
    const uint32_t writers = writer_threads(static_cast<uint32_t>(llama_n_threads(runtime.context.get())));
    for (size_t d = 0; d < runtime.devices.size(); ++d) {
        HYPURA_ASSIGN(auto stream, DeviceStream::create(runtime.devices[d], share.staging[d].piece_bytes));
        streams[runtime.devices[d]] = stream.get();
        if (share.staging[d].part_bytes > 0) {
            HYPURA_ASSIGN(auto staging, BatchStaging::create(*stream, share.staging[d].part_bytes, writers));
            stagings[runtime.devices[d]] = runtime.stagings.emplace_back(std::move(staging)).get();
        }
        runtime.device_streams.push_back(std::move(stream));
    }
    const auto make = [&](const DeviceShare::Bank& wanted) -> Result<DeviceBank*> {
        if (wanted.slots == 0) return nullptr;
        HYPURA_ASSIGN(auto bank,
                      DeviceBank::create(*streams.at(wanted.device), wanted.group, wanted.slots, share.most_ids));
        bank->stage_batches_in(stagings[wanted.device]);
        return runtime.banks.emplace_back(std::move(bank)).get();
    };
    for (const DeviceShare::Bank& wanted : share.whole) {
        HYPURA_TRY(make(wanted));
        for (const SlotPart& part : wanted.group.parts) layout.device.push_back({part.tensor, part.info});
    }
    std::vector<DeviceBank*> banks;
    for (const DeviceShare::Bank& wanted : share.partial) {
        HYPURA_ASSIGN(DeviceBank* const bank, make(wanted));
        banks.push_back(bank);
    }
    return banks;
}

residency::SlotMemory slot_memory(const Runtime& runtime, const std::vector<DeviceBank*>& banks) {
    const bool all_on_devices = !banks.empty() && std::ranges::none_of(banks, [](DeviceBank* bank) { return !bank; });
    if (!all_on_devices) return {};
    const DeviceStream& stream = *runtime.device_streams.front();
    if (ggml_backend_dev_host_buffer_type(stream.device()) == nullptr) return {};
    return {[&stream](uint64_t bytes) { return stream.allocate_pinned(bytes); }, kPinnedPieceBytes};
}

}  // namespace hypura::engine
