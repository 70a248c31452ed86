// What one program's run of one case came to: the records that `hypura bench` collects, and that go to JSON as they
// are.
#pragma once

#include "base/status.h"

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace hypura::cli {

// One thing that is measured. Times begin after a warm-up of the same kind.
struct BenchCase {
    bool decode = false;
    uint32_t prompt_tokens = 0;   // decode: tokens that are there before
    uint32_t warm_up_tokens = 0;  // decode only: single tokens that are not measured
    uint32_t tokens = 0;          // that are measured

    std::string name() const;  // "prompt 512", "decode"
    // "prompt:512" or "decode:128:32:100": how the program tells its child.
    std::string text() const;
};
Result<BenchCase> parse_bench_case(const std::string& text);

// One stretch of tokens in hypura itself, and what happened meanwhile. All counts are differences over the stretch.
struct Stretch {
    uint32_t tokens = 0;
    int64_t wall_us = 0;
    int64_t wait_us = 0;         // the computation stood still for reads
    int64_t busy_us = 0;         // a read was outstanding
    uint64_t read_bytes = 0;     // that the kernel returned to the streamer's reads
    uint64_t process_bytes = 0;  // /proc/self/io read_bytes: everything the process took from devices
    uint64_t demands = 0;
    uint64_t hits = 0;
    uint64_t joined = 0;
    uint64_t prefetches = 0;
    uint64_t prefetch_wasted = 0;
    uint64_t device_demands = 0;  // of layers with device slots
    uint64_t device_hits = 0;
    uint64_t device_brought_ahead = 0;
    uint64_t device_uploaded_bytes = 0;
    uint64_t minor_faults = 0;
    uint64_t major_faults = 0;
    int64_t user_us = 0;
    int64_t system_us = 0;
    std::vector<int64_t> token_us;  // decode: each token's time

    double tokens_per_second() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Stretch, tokens, wall_us, wait_us, busy_us, read_bytes, process_bytes, demands, hits,
                                   joined, prefetches, prefetch_wasted, device_demands, device_hits,
                                   device_brought_ahead, device_uploaded_bytes, minor_faults, major_faults, user_us,
                                   system_us, token_us)

// What a child of ours reports.
struct ChildReport {
    std::string mode, reason, reader;
    bool direct_io = false;
    uint32_t batch_tokens = 0;
    uint64_t model_bytes = 0;
    uint64_t resident_bytes = 0;
    uint64_t streamed_bytes = 0;
    uint64_t slot_bytes = 0;
    uint64_t context_bytes = 0;
    uint64_t ram_bytes = 0;
    int64_t load_us = 0;
    int64_t cold_us = 0;      // prompt cases: from opening the model to the first logits, nothing being cached
    uint64_t cold_bytes = 0;  // that the process took from devices for that
    Stretch measured;
    Stretch beside_reads;          // the same once more beside reads that nobody waits for; no tokens: it was not run
    uint64_t side_read_bytes = 0;  // that were begun meanwhile
    std::vector<std::array<uint64_t, 3>> slices;  // every streamed read: file, offset, bytes
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ChildReport, mode, reason, reader, direct_io, batch_tokens, model_bytes,
                                   resident_bytes, streamed_bytes, slot_bytes, context_bytes, ram_bytes, load_us,
                                   cold_us, cold_bytes, measured, beside_reads, side_read_bytes, slices)

// A run of llama-bench. Bytes and faults are taken from /proc when it says that the measured stretch begins and ends.
struct PeerSample {
    double tokens_per_second = 0;  // its own figure; 0: it failed
    std::string failure;           // why
    double bytes_per_token = 0;
    double minor_faults_per_token = 0;
    double major_faults_per_token = 0;
    int64_t wall_us = 0;  // of the whole program
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PeerSample, tokens_per_second, failure, bytes_per_token, minor_faults_per_token,
                                   major_faults_per_token, wall_us)

double median(std::vector<double> values);  // 0 of none
// (largest - smallest) / median; 0 of fewer than two.
double spread(const std::vector<double>& values);

}  // namespace hypura::cli
