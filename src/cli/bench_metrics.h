// The figures of `hypura bench`, from its samples: pure arithmetic. docs/benchmarks.md explains them to users.
//
// With T = measured time per token, C = time per token of the same work with every weight in memory (compute floor),
// U = bytes read per token, B = what the disk gives at the run's own request sizes (ceiling), busy = time per token
// with a read outstanding:
//   roofline fraction   max(C, U/B) / T; beside reads: the same with the floor of that
//   bandwidth fraction  U / (B * busy);  duty cycle  busy / T
//   overlap fraction    (C + U/B - T) / min(C, U/B), between 0 and 1
//   hit rate            demands found in memory that no prefetch had brought / demands, one a pass, layer and expert
//   coverage            demands that a prefetch had brought or begun / (those + demands that had to be read)
//   precision           prefetched pages that were used / prefetched pages
//   waste               prefetched pages never used / pages that demands needed and memory lacked
// These are the usual definitions (FlexGen's and MoE-Lightning's max(compute, I/O) rooflines; Belady-relative rates are
// `hypura simulate`'s). Counts are pages where literature has bytes: pages of one class are of one size.
// NaN: not measured or without meaning; JSON shows null.
#pragma once

#include "cli/bench_sample.h"

#include <map>
#include <string>
#include <vector>

namespace hypura::cli {

// C, and how it was found: "measured", "estimated: …".
struct ComputeFloor {
    double us_per_token = 0;  // 0: unknown
    double system_us_per_token = 0;
    std::string how;
    double beside_reads_us_per_token = 0;  // while U is read that nobody waits for; 0: unknown
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ComputeFloor, us_per_token, system_us_per_token, how, beside_reads_us_per_token)

struct OurRun {
    ChildReport report;
    std::string failure;                  // empty: it ran
    double ceiling_bytes_per_second = 0;  // 0: nothing was streamed
    uint32_t ceiling_depth = 0;           // at which the disk gave that
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(OurRun, report, failure, ceiling_bytes_per_second, ceiling_depth)

struct CaseResult {
    BenchCase bench_case;
    std::vector<OurRun> runs;
    std::map<std::string, std::vector<PeerSample>> peers;  // by Peer::name
    ComputeFloor floor;
};

// Name and value, in the order in which they are shown.
using Metrics = std::vector<std::pair<std::string, double>>;

Metrics metrics_of(const OurRun& run, const ComputeFloor& floor);
// Median of each over the runs that did not fail.
Metrics median_metrics(const CaseResult& result);
double metric(const Metrics& metrics, std::string_view name);

std::vector<double> our_rates(const CaseResult& result);
std::vector<double> peer_rates(const std::vector<PeerSample>& samples);

// The wall time less the time that the computation stood still: what the floor is at most, where it cannot be measured.
ComputeFloor estimated_floor(const std::vector<OurRun>& runs);
// Of a child that had every weight in memory. Beside reads it is unknown where fewer of them began than were wanted.
ComputeFloor measured_floor(const ChildReport& report, uint64_t side_bytes_per_token);

// U, over the runs that did not fail.
uint64_t median_read_bytes_per_token(const std::vector<OurRun>& runs);

}  // namespace hypura::cli
