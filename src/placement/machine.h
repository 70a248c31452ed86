// A machine as the planner sees it: rows of compute devices and disks with measured rates. Filled in by measuring
// (engine/machine_probe.h), by reading a saved profile, or from a few numbers for a machine that one does not have.
//
// Devices of any kind are rows of one table; the first one is the processor.
#pragma once

#include "base/status.h"
#include "storage/disk_probe.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::placement {

// What kind of product: libggml computes them in different ways, at very different rates.
struct ProductKind {
    bool repacked = false;  // libggml's rearranged weights, which `resident` uses
    bool routed = false;    // experts chosen by a router (MUL_MAT_ID): many small matrices instead of one
    bool operator==(const ProductKind&) const = default;
};

// How fast a device multiplies matrices of one format with `batch_tokens` columns each. One figure serves both ends: a
// single column is bound by reading the weights, many columns by arithmetic.
struct MatmulRate {
    std::string format;  // "q4_K"
    ProductKind kind;
    uint32_t batch_tokens = 1;
    double weight_bytes_per_second = 0;
    double flops = 0;  // multiplications and additions a second: the same figure in other units
};

struct ComputeDevice {
    std::string name;  // ggml's: "CPU", "Vulkan0"
    std::string description;
    std::string kind;         // "cpu", "gpu", "igpu", "remote", "accelerator"
    uint64_t free_bytes = 0;  // when measured
    uint64_t total_bytes = 0;
    double upload_bytes_per_second = 0;  // from our memory, over the network to another machine; 0: is our memory
    bool writes_directly = false;        // its memory is mapped into ours: threads can write while it computes
    double node_us = 0;                  // what a graph node costs beside its arithmetic
    double trip_us = 0;                  // and a graph beside its nodes: the way to another machine and back; else 0
    std::vector<MatmulRate> rates;
};

struct DiskProfile {
    std::string key;         // hardware::DiskInfo::key
    std::string path;        // that was measured
    int64_t measured_s = 0;  // Unix time
    bool direct = false;
    bool proven = false;     // true bytes, page cache idle (storage/disk_probe.h)
    bool made_file = false;  // measured on a file that had just been written: layers below may still have held it
    std::vector<storage::DiskPoint> points;
};

struct Machine {
    std::string fingerprint;  // of the hardware that was measured; empty: assumed, not measured
    int64_t measured_s = 0;   // Unix time
    std::string processor;
    uint32_t cores = 1;
    std::vector<std::string> features;
    uint64_t memory_bytes = 0;  // of the machine
    double memory_bytes_per_second = 0;
    std::vector<ComputeDevice> devices;  // at least one; the first is the processor
    std::vector<DiskProfile> disks;

    bool measured() const { return !fingerprint.empty(); }
};

// What is known to be about right for any machine and hardly ever too good: 3.5 GB/s of weights a core, 40 GB/s in all,
// 15 GFLOPS a core, a SATA disk. A plan for it says that nothing was measured.
Machine assumed_machine(uint32_t cores, uint64_t memory_bytes);

// A disk of `bytes_per_second` at 4 MiB and `latency_us` at 4 KiB, each at depth 1, with what lies between.
DiskProfile assumed_disk(double bytes_per_second, double latency_us);

// What tells this machine from another, or from itself with another processor, memory or libggml.
std::string fingerprint_of(std::string_view processor, uint32_t cores, uint64_t memory_bytes,
                           std::string_view libraries);

// The rate for `format`, or the nearest one measured by bits a weight; batches between measured ones by the time a
// column takes, linearly. Where that kind was not measured, the plain one's. 0: nothing measured on that device.
double weight_rate(const ComputeDevice& device, std::string_view format, ProductKind kind, double batch_tokens);

// ---- saved ---------------------------------------------------------------------------------------------------------

inline constexpr int64_t kStaleAfterSeconds = int64_t{30} * 24 * 3600;

std::string machine_json(const Machine& machine);
// kInvalidArgument for text that is no profile of this version.
Result<Machine> parse_machine(std::string_view text);

// kNotFound when there is none; kInvalidArgument when it is not readable as one.
Result<Machine> load_machine(const std::string& file);
// Makes the folder; replaces the file as a whole.
Status save_machine(const Machine& machine, const std::string& file);

}  // namespace hypura::placement
