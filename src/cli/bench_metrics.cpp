#include "cli/bench_metrics.h"

#include "base/bytes.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace hypura::cli {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

double ratio(double part, double whole) { return whole > 0 ? part / whole : kUnknown; }

double as_double(auto value) { return static_cast<double>(value); }

// Prefetched pages that a demand met, at least on their way. Promises that are still open at the end of a stretch, as
// at its beginning, count as used.
double used_prefetches(const Stretch& stretch) {
    return as_double(stretch.prefetches - std::min(stretch.prefetches, stretch.prefetch_wasted));
}

// T, C and U/B of a run, in microseconds a token.
struct Times {
    double total = 0;
    double compute = kUnknown;
    double compute_beside_reads = kUnknown;
    double io = kUnknown;

    // Both NaN where a part is unknown.
    double roofline() const { return std::max(compute, io); }
    double roofline_beside_reads() const {
        return std::isnan(compute_beside_reads) ? kUnknown : std::max(compute_beside_reads, io);
    }
    double overlap() const {
        const double hidden = (compute + io - total) / std::min(compute, io);
        return std::isnan(hidden) ? kUnknown : std::clamp(hidden, 0.0, 1.0);
    }
};

Times times_of(const OurRun& run, const ComputeFloor& floor) {
    const Stretch& stretch = run.report.measured;
    Times times{.total = as_double(stretch.wall_us) / stretch.tokens};
    if (floor.us_per_token > 0) times.compute = floor.us_per_token;
    if (floor.beside_reads_us_per_token > 0) times.compute_beside_reads = floor.beside_reads_us_per_token;
    if (run.ceiling_bytes_per_second > 0)
        times.io = as_double(stretch.read_bytes) / stretch.tokens / run.ceiling_bytes_per_second * 1e6;
    return times;
}

// Without the system time that the same work takes when nothing is read.
double io_cpu_seconds_per_gib(const Stretch& stretch, const ComputeFloor& floor) {
    const double system_us = as_double(stretch.system_us) - floor.system_us_per_token * stretch.tokens;
    return ratio(std::max(system_us, 0.0) / 1e6, as_double(stretch.read_bytes) / kGiB);
}

void add_speed(Metrics& metrics, const OurRun& run, const Times& times) {
    const Stretch& stretch = run.report.measured;
    const double tokens = stretch.tokens;
    metrics.emplace_back("tokens_per_second", stretch.tokens_per_second());
    metrics.emplace_back("us_per_token", times.total);
    metrics.emplace_back("wait_us_per_token", as_double(stretch.wait_us) / tokens);
    metrics.emplace_back("read_bytes_per_token", as_double(stretch.read_bytes) / tokens);
    metrics.emplace_back("process_bytes_per_token", as_double(stretch.process_bytes) / tokens);
}

void add_roofline(Metrics& metrics, const OurRun& run, const Times& times) {
    const Stretch& stretch = run.report.measured;
    const double busy_seconds = as_double(stretch.busy_us) / 1e6;
    metrics.emplace_back("ceiling_bytes_per_second",
                         run.ceiling_bytes_per_second > 0 ? run.ceiling_bytes_per_second : kUnknown);
    metrics.emplace_back("io_us_per_token", times.io);
    metrics.emplace_back("compute_us_per_token", times.compute);
    metrics.emplace_back("compute_beside_reads_us_per_token", times.compute_beside_reads);
    metrics.emplace_back("roofline_fraction", times.roofline() / times.total);
    metrics.emplace_back("roofline_fraction_beside_reads", times.roofline_beside_reads() / times.total);
    metrics.emplace_back("bandwidth_fraction",
                         ratio(as_double(stretch.read_bytes), run.ceiling_bytes_per_second * busy_seconds));
    metrics.emplace_back("duty_cycle", ratio(as_double(stretch.busy_us), as_double(stretch.wall_us)));
    metrics.emplace_back("overlap_fraction", times.overlap());
}

void add_cache(Metrics& metrics, const Stretch& stretch) {
    const double used = used_prefetches(stretch);
    const double found = as_double(stretch.hits + stretch.joined);
    const double missed = as_double(stretch.demands) - found;
    metrics.emplace_back("hit_rate", ratio(std::max(found - used, 0.0), as_double(stretch.demands)));
    metrics.emplace_back("prefetch_coverage", stretch.prefetches == 0 ? kUnknown : ratio(used, used + missed));
    metrics.emplace_back("prefetch_precision", ratio(used, as_double(stretch.prefetches)));
    metrics.emplace_back("prefetch_waste",
                         stretch.prefetches == 0 ? kUnknown : ratio(as_double(stretch.prefetch_wasted), missed + used));
}

// Opening included. What of it reading explains is bytes over the ceiling.
void add_cold_start(Metrics& metrics, const OurRun& run) {
    const bool known = run.report.cold_us > 0;
    metrics.emplace_back("cold_first_token_us", known ? as_double(run.report.cold_us) : kUnknown);
    metrics.emplace_back(
        "cold_io_us", known ? ratio(as_double(run.report.cold_bytes) * 1e6, run.ceiling_bytes_per_second) : kUnknown);
}

void add_cost(Metrics& metrics, const Stretch& stretch, const ComputeFloor& floor) {
    metrics.emplace_back("io_cpu_seconds_per_gib", io_cpu_seconds_per_gib(stretch, floor));
    metrics.emplace_back("minor_faults_per_token", as_double(stretch.minor_faults) / stretch.tokens);
    metrics.emplace_back("major_faults_per_token", as_double(stretch.major_faults) / stretch.tokens);
}

std::vector<const OurRun*> good_runs(const std::vector<OurRun>& runs) {
    std::vector<const OurRun*> good;
    for (const OurRun& run : runs)
        if (run.failure.empty() && run.report.measured.tokens > 0) good.push_back(&run);
    return good;
}

}  // namespace

Metrics metrics_of(const OurRun& run, const ComputeFloor& floor) {
    const Times times = times_of(run, floor);
    Metrics metrics;
    add_speed(metrics, run, times);
    add_roofline(metrics, run, times);
    add_cache(metrics, run.report.measured);
    add_cost(metrics, run.report.measured, floor);
    add_cold_start(metrics, run);
    return metrics;
}

Metrics median_metrics(const CaseResult& result) {
    std::vector<Metrics> all;
    for (const OurRun* run : good_runs(result.runs)) all.push_back(metrics_of(*run, result.floor));
    Metrics medians = all.empty() ? Metrics{} : all.front();
    for (size_t m = 0; m < medians.size(); ++m) {
        std::vector<double> values;
        for (const Metrics& metrics : all)
            if (!std::isnan(metrics[m].second)) values.push_back(metrics[m].second);
        medians[m].second = values.empty() ? kUnknown : median(std::move(values));
    }
    return medians;
}

double metric(const Metrics& metrics, std::string_view name) {
    const auto found = std::ranges::find(metrics, name, [](const auto& entry) { return entry.first; });
    return found == metrics.end() ? kUnknown : found->second;
}

std::vector<double> our_rates(const CaseResult& result) {
    std::vector<double> rates;
    for (const OurRun* run : good_runs(result.runs)) rates.push_back(run->report.measured.tokens_per_second());
    return rates;
}

std::vector<double> peer_rates(const std::vector<PeerSample>& samples) {
    std::vector<double> rates;
    for (const PeerSample& sample : samples)
        if (sample.failure.empty()) rates.push_back(sample.tokens_per_second);
    return rates;
}

ComputeFloor estimated_floor(const std::vector<OurRun>& runs) {
    std::vector<double> computing;
    for (const OurRun* run : good_runs(runs)) {
        const Stretch& stretch = run->report.measured;
        computing.push_back(as_double(stretch.wall_us - stretch.wait_us) / stretch.tokens);
    }
    if (computing.empty()) return {.how = "unknown"};
    return {.us_per_token = median(computing),
            .how = "estimated: the time that the computation did not wait for reads"};
}

ComputeFloor measured_floor(const ChildReport& report, uint64_t side_bytes_per_token) {
    constexpr double kLeastShare = 0.9;
    const Stretch &alone = report.measured, &beside = report.beside_reads;
    ComputeFloor floor{.us_per_token = as_double(alone.wall_us) / alone.tokens,
                       .system_us_per_token = as_double(alone.system_us) / alone.tokens,
                       .how = "measured"};
    const double wanted_bytes = as_double(side_bytes_per_token) * beside.tokens;
    if (wanted_bytes > 0 && as_double(report.side_read_bytes) >= kLeastShare * wanted_bytes)
        floor.beside_reads_us_per_token = as_double(beside.wall_us) / beside.tokens;
    return floor;
}

uint64_t median_read_bytes_per_token(const std::vector<OurRun>& runs) {
    std::vector<double> bytes;
    for (const OurRun* run : good_runs(runs))
        bytes.push_back(as_double(run->report.measured.read_bytes) / run->report.measured.tokens);
    return static_cast<uint64_t>(median(std::move(bytes)));
}

}  // namespace hypura::cli
