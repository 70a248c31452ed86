// Measures this machine: libggml's devices, the memory, and the disk under a path, in less than 20 seconds; a minute
// more where a card's driver has to translate shaders first.
#pragma once

#include "base/status.h"
#include "placement/machine.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::engine {

// Devices as libggml lists them, the processor first, with free memory and without rates.
std::vector<placement::ComputeDevice> list_devices();

// Makes the memory of `servers` ("host:port", each a ggml-rpc-server) devices like any other. Idempotent.
// SIGPIPE is ignored from then on.
// kUnsupportedHost where ggml's RPC backend is not installed; kInvalidArgument where a server does not answer.
Status add_remote_devices(const std::vector<std::string>& servers);

// What measured rates depend on beside the hardware: "ggml 0.9.11".
std::string library_versions();

// The fingerprint of the machine that this process runs on (placement::fingerprint_of).
Result<std::string> this_fingerprint();

// Says what is being measured; may be empty.
using ProbeProgress = std::function<void(std::string_view what)>;

// Matrix products on every device and the memory's bandwidth; no disks. About 8 s on two cores, 5 more for a card.
// `threads` compute (0: the usable cores).
Result<placement::Machine> measure_machine(uint32_t threads, const ProbeProgress& progress);

// Likewise of other machines' devices (add_remote_devices) that `machine` has no rates of: rows are added. False: there
// was none. As long as their network takes for 1.3 GB.
bool measure_remote_devices(placement::Machine& machine, const ProbeProgress& progress);

// The disk under `path`, which is a folder or a file; in a folder, and beside a file of less than 64 MiB, a file of 512
// MiB is made for it and removed (storage/disk_probe.h). About 7 s.
Result<placement::DiskProfile> measure_disk(const std::string& path, const ProbeProgress& progress);

// What the profile knows of the disk under `path`; nullptr: not measured, or longer ago than kStaleAfterSeconds.
const placement::DiskProfile* known_disk(const placement::Machine& machine, const std::string& path);

// What planning goes by: the saved profile where there is one of this machine that is fresh, and what it knows of the
// disk under `path`; assumptions (placement::assumed_machine) for what is missing. Never measures, never fails.
struct KnownMachine {
    placement::Machine machine;  // measured() tells
    placement::DiskProfile disk;
    bool disk_measured = false;
};
KnownMachine known_machine(const std::string& profile_file, const std::string& path);

// Replaces an assumed disk by a quick look at the one under the model file `path`, 0.1 s (storage::glance_at_disk); the
// assumption stays where that is not possible.
void glance_at_unknown_disk(KnownMachine& known, const std::string& path);

}  // namespace hypura::engine
