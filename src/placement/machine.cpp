#include "placement/machine.h"

#include "base/bytes.h"
#include "gguf/types.h"

#include <algorithm>
#include <cmath>
#include <format>
#include <map>

namespace hypura::placement {
namespace {

// Bytes a second and core, one column: 5 to 9 GB/s of q4_K were measured on machines of 2 and 16 cores; only experts in
// f16 did less, 3.3 on a slow day. All cores together get no more than two channels of DDR4 bring.
constexpr double kAssumedWeightRate = 3.5e9;
constexpr double kMostAssumedWeightRate = 40e9;
constexpr double kAssumedMemoryShare = 1.25;  // of memory, over that of products
constexpr double kAssumedFlops = 15e9;        // a core, 512 columns: without AVX2; experts on 16 cores with it
constexpr double kAssumedDisk = 500e6;        // SATA
constexpr double kAssumedLatencyUs = 150;
constexpr double kAssumedNodeUs = 5;

double bits_per_weight(std::string_view format) {
    const auto type = gguf::element_type_by_name(format);
    return type ? 8.0 * type->block_bytes / type->block_elements : 16;
}

// Of the rates that were measured, those of the format nearest in size, by batch.
std::map<double, double> nearest_rates(const ComputeDevice& device, std::string_view format, ProductKind kind) {
    std::map<double, double> by_batch;
    double nearest = INFINITY;
    for (const MatmulRate& rate : device.rates) {
        if (rate.kind != kind || rate.weight_bytes_per_second <= 0) continue;
        const double distance =
            rate.format == format ? -1 : std::fabs(bits_per_weight(rate.format) - bits_per_weight(format));
        if (distance > nearest) continue;
        if (distance < nearest) by_batch.clear();
        nearest = distance;
        by_batch[rate.batch_tokens] = rate.weight_bytes_per_second;
    }
    return by_batch;
}

double assumed_weight_rate(uint32_t cores) { return std::min(kAssumedWeightRate * cores, kMostAssumedWeightRate); }

MatmulRate assumed_rate(std::string_view format, uint32_t batch_tokens, uint32_t cores) {
    const double bytes_per_weight = bits_per_weight(format) / 8;
    const double by_arithmetic = kAssumedFlops * cores * bytes_per_weight / (2.0 * batch_tokens);
    const double rate = batch_tokens == 1 ? std::min(assumed_weight_rate(cores), by_arithmetic) : by_arithmetic;
    return {std::string(format), {}, batch_tokens, rate, rate / bytes_per_weight * 2 * batch_tokens};
}

}  // namespace

Machine assumed_machine(uint32_t cores, uint64_t memory_bytes) {
    Machine machine{.cores = cores, .memory_bytes = memory_bytes};
    machine.processor = "assumed";
    machine.memory_bytes_per_second = assumed_weight_rate(cores) * kAssumedMemoryShare;
    ComputeDevice processor{.name = "CPU", .description = "assumed", .kind = "cpu", .node_us = kAssumedNodeUs};
    processor.free_bytes = processor.total_bytes = memory_bytes;
    for (const std::string_view format : {"f16", "q8_0", "q6_K", "q4_K", "mxfp4"})
        for (const uint32_t batch_tokens : {1U, 512U})
            processor.rates.push_back(assumed_rate(format, batch_tokens, cores));
    machine.devices.push_back(std::move(processor));
    machine.disks.push_back(assumed_disk(kAssumedDisk, kAssumedLatencyUs));
    return machine;
}

// A read costs its latency and then the disk's share; reads in flight share the latency but not the bandwidth.
DiskProfile assumed_disk(double bytes_per_second, double latency_us) {
    DiskProfile disk{.key = "assumed"};
    const double latency_s = latency_us / 1e6;
    for (const storage::DiskCell& cell : storage::standard_cells()) {
        const double transfer_s = cell.request_bytes / bytes_per_second;
        const double rate =
            std::min(bytes_per_second, cell.queue_depth * cell.request_bytes / (latency_s + transfer_s));
        const auto each_us = static_cast<int64_t>(cell.queue_depth * cell.request_bytes / rate * 1e6);
        disk.points.push_back({cell, rate, rate / cell.request_bytes, each_us, each_us, 0});
    }
    return disk;
}

std::string fingerprint_of(std::string_view processor, uint32_t cores, uint64_t memory_bytes,
                           std::string_view libraries) {
    return std::format("{} x{}, {}, {}", processor, cores, format_bytes(memory_bytes), libraries);
}

double weight_rate(const ComputeDevice& device, std::string_view format, ProductKind kind, double batch_tokens) {
    std::map<double, double> rates = nearest_rates(device, format, kind);
    if (rates.empty()) rates = nearest_rates(device, format, {.repacked = false, .routed = kind.routed});
    if (rates.empty()) rates = nearest_rates(device, format, {});
    if (rates.empty()) return 0;
    const auto above = rates.lower_bound(batch_tokens);
    if (above == rates.begin()) return above->second;
    if (above == rates.end()) {
        // Beyond the largest batch measured, time grows with the columns.
        const auto& [batch, rate] = *std::prev(above);
        return rate * batch / batch_tokens;
    }
    const auto below = std::prev(above);
    const double share = (batch_tokens - below->first) / (above->first - below->first);
    const double seconds = (1 - share) / below->second + share / above->second;
    return 1 / seconds;
}

}  // namespace hypura::placement
