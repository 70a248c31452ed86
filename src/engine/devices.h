// Where else weights can be: graphics cards, and other machines' memory, as ggml's devices. machine_probe.h lists them.
#pragma once

#include "base/status.h"
#include "placement/machine.h"

#include <ggml-backend.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::engine {

struct EngineOptions;

// "cpu", "gpu", "igpu" (shares the host's memory), "remote" (another machine's) or "accelerator".
std::string_view device_kind(ggml_backend_dev_t device);

// ggml's names of them: "Vulkan0, Vulkan1".
std::string device_names(const std::vector<ggml_backend_dev_t>& devices);

// The devices that `options` name or allow. A graphics driver in software is a device only where
// GGML_VK_VISIBLE_DEVICES names it. kInvalidArgument for one that is not there.
Result<std::vector<ggml_backend_dev_t>> choose_devices(const EngineOptions& options);

// Graphics cards among `devices`, the one with most usable memory first.
std::vector<ggml_backend_dev_t> cards_by_size(const std::vector<ggml_backend_dev_t>& devices);

// The row of `profile` with a device's rates: devices are told apart by description, those alike by their order.
// nullptr: it was not measured.
const placement::ComputeDevice* measured_row(const placement::Machine& profile, ggml_backend_dev_t device);

// `profile` with `devices` as its only ones beside the processor, and what is usable of them now. Nothing where one of
// them was not measured.
std::optional<placement::Machine> with_these_devices(placement::Machine profile,
                                                     const std::vector<ggml_backend_dev_t>& devices);

// Free memory of a device, less a margin for what nobody announces.
uint64_t usable_device_bytes(ggml_backend_dev_t device);

}  // namespace hypura::engine
