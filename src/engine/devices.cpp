#include "engine/devices.h"

#include "base/bytes.h"
#include "engine/engine.h"
#include "engine/llama_library.h"
#include "engine/machine_probe.h"

#include <algorithm>
#include <csignal>
#include <functional>
#include <iterator>
#include <mutex>
#include <set>

namespace hypura::engine {
namespace {

using AddServer = ggml_backend_reg_t (*)(const char* endpoint);

std::vector<ggml_backend_dev_t> all_devices() {
    start_llama();
    std::vector<ggml_backend_dev_t> devices;
    devices.reserve(ggml_backend_dev_count());
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) devices.push_back(ggml_backend_dev_get(i));
    return devices;
}

// An integrated GPU shares the host's memory, which --ram has shared out already: only by name.
bool is_used_unasked(ggml_backend_dev_t device) {
    const std::string_view kind = device_kind(device);
    return kind == "gpu" || kind == "remote";
}

}  // namespace

std::string device_names(const std::vector<ggml_backend_dev_t>& devices) {
    std::string names;
    for (ggml_backend_dev_t device : devices)
        names += std::string(names.empty() ? "" : ", ") + ggml_backend_dev_name(device);
    return names;
}

std::string_view device_kind(ggml_backend_dev_t device) {
    const std::string_view backend = ggml_backend_reg_name(ggml_backend_dev_backend_reg(device));
    if (backend.starts_with("RPC")) return "remote";
    switch (ggml_backend_dev_type(device)) {
        case GGML_BACKEND_DEVICE_TYPE_CPU:
            return "cpu";
        case GGML_BACKEND_DEVICE_TYPE_GPU:
            return "gpu";
        case GGML_BACKEND_DEVICE_TYPE_IGPU:
            return "igpu";
        default:
            return "accelerator";
    }
}

Status add_remote_devices(const std::vector<std::string>& servers) {
    static std::mutex mutex;
    static std::set<std::string> added;
    if (servers.empty()) return {};
    start_llama();
    const std::scoped_lock lock(mutex);
    ggml_backend_reg_t registry = ggml_backend_reg_by_name("RPC");
    void* const address =
        registry == nullptr ? nullptr : ggml_backend_reg_get_proc_address(registry, "ggml_backend_rpc_add_server");
    if (address == nullptr)
        return fail(ErrorCode::kUnsupportedHost,
                    "--rpc needs ggml's RPC backend, which is not installed (package libggml0-backend-rpc)");
    // libggml writes to a server's socket as if it could not be closed: without this the signal would end the program
    // before libggml can say that the server is gone.
    std::signal(SIGPIPE, SIG_IGN);
    for (const std::string& server : servers) {
        if (added.contains(server)) continue;
        ggml_backend_reg_t remote = reinterpret_cast<AddServer>(address)(server.c_str());
        if (remote == nullptr)
            return fail(ErrorCode::kInvalidArgument, "--rpc: no ggml-rpc-server answers at {}", server);
        ggml_backend_register(remote);
        added.insert(server);
    }
    return {};
}

uint64_t usable_device_bytes(ggml_backend_dev_t device) {
    constexpr uint64_t kLeastMargin = 256 * kMiB;
    size_t free_bytes = 0, total_bytes = 0;
    ggml_backend_dev_memory(device, &free_bytes, &total_bytes);
    return free_bytes - std::min<uint64_t>(free_bytes, std::max<uint64_t>(kLeastMargin, total_bytes / 32));
}

Result<std::vector<ggml_backend_dev_t>> choose_devices(const EngineOptions& options) {
    std::vector<ggml_backend_dev_t> chosen;
    if (options.devices == std::vector<std::string>{"none"}) return chosen;
    HYPURA_TRY(add_remote_devices(options.rpc_servers));
    const std::vector<ggml_backend_dev_t> devices = all_devices();
    if (options.devices.empty()) {
        std::ranges::copy_if(devices, std::back_inserter(chosen), is_used_unasked);
        // libllama gives the last one the output: logits of a card need not cross the network.
        std::ranges::stable_partition(chosen, [](auto* device) { return device_kind(device) == "remote"; });
        return chosen;
    }
    for (const std::string& name : options.devices) {
        const auto found = std::ranges::find(devices, name, ggml_backend_dev_name);
        if (found == devices.end() || device_kind(*found) == "cpu")
            return fail(ErrorCode::kInvalidArgument, "--device: there is no device '{}' to offload to (devices: {})",
                        name, device_names(devices));
        chosen.push_back(*found);
    }
    return chosen;
}

std::vector<ggml_backend_dev_t> cards_by_size(const std::vector<ggml_backend_dev_t>& devices) {
    std::vector<ggml_backend_dev_t> cards;
    std::ranges::copy_if(devices, std::back_inserter(cards),
                         [](ggml_backend_dev_t device) { return device_kind(device) == "gpu"; });
    std::ranges::stable_sort(cards, std::greater{}, usable_device_bytes);
    return cards;
}

const placement::ComputeDevice* measured_row(const placement::Machine& profile, ggml_backend_dev_t device) {
    const std::string_view description = ggml_backend_dev_description(device);
    std::ptrdiff_t place = 0;
    for (ggml_backend_dev_t other : all_devices()) {
        if (other == device) break;
        if (ggml_backend_dev_description(other) == description && device_kind(other) == device_kind(device)) ++place;
    }
    for (const placement::ComputeDevice& row : profile.devices) {
        if (row.kind != device_kind(device) || row.description != description) continue;
        if (place-- == 0) return row.rates.empty() ? nullptr : &row;
    }
    return nullptr;
}

std::optional<placement::Machine> with_these_devices(placement::Machine profile,
                                                     const std::vector<ggml_backend_dev_t>& devices) {
    std::vector<placement::ComputeDevice> rows = {profile.devices.front()};
    for (ggml_backend_dev_t device : devices) {
        const placement::ComputeDevice* const row = measured_row(profile, device);
        if (row == nullptr) return std::nullopt;
        rows.push_back(*row);
        rows.back().name = ggml_backend_dev_name(device);
        rows.back().free_bytes = usable_device_bytes(device);
    }
    profile.devices = std::move(rows);
    return profile;
}

}  // namespace hypura::engine
