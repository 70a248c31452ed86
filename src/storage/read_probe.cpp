#include "storage/read_probe.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/memory_region.h"

#include <sys/resource.h>

#include <algorithm>
#include <vector>

namespace hypura::storage {
namespace {

constexpr std::string_view kProbeName = "probe";

int64_t cpu_now_us() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1'000'000 + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
}

uint64_t largest(std::span<const ProbeRange> ranges) {
    uint64_t bytes = 0;
    for (const ProbeRange& range : ranges) bytes = std::max(bytes, range.bytes);
    return bytes;
}

// Destinations for `depth` ranges, as far apart as BlockReader wants.
class Lanes {
public:
    static Result<Lanes> create(uint32_t depth, uint64_t range_bytes) {
        Lanes lanes;
        lanes.stride_bytes_ = align_up(range_bytes + 2 * BlockReader::kSlackBytes, 4096);
        HYPURA_ASSIGN(lanes.memory_, MemoryRegion::reserve(lanes.stride_bytes_ * depth));
        lanes.memory_.advise_huge_pages(0, lanes.memory_.size_bytes());
        lanes.memory_.commit(0, lanes.memory_.size_bytes());
        return lanes;
    }
    std::byte* destination(uint64_t lane) const {
        return memory_.data() + stride_bytes_ * lane + BlockReader::kSlackBytes;
    }

private:
    MemoryRegion memory_;
    uint64_t stride_bytes_ = 0;
};

// Keeps `depth` ranges outstanding until the load is over.
class Probe {
public:
    Probe(BlockReader& reader, const ProbeLoad& load, const Lanes& lanes)
        : reader_(reader), load_(load), lanes_(lanes), started_us_(load.depth) {}

    Result<ProbeResult> run() {
        const uint64_t bytes_before = reader_.counters().bytes;
        const int64_t cpu_before_us = cpu_now_us();
        begin_us_ = now_us();
        for (uint32_t lane = 0; lane < load_.depth; ++lane) HYPURA_TRY(submit_next(lane));
        Status first_error;
        while (reader_.outstanding() > 0) HYPURA_TRY(collect(first_error));
        HYPURA_TRY(first_error);
        result_.wall_us = now_us() - begin_us_;
        result_.cpu_us = cpu_now_us() - cpu_before_us;
        result_.bytes = reader_.counters().bytes - bytes_before;
        fill_latencies();
        return result_;
    }

private:
    // Once over it stays over.
    bool is_over(const ProbeRange& next) {
        is_over_ = is_over_ || submitted_ >= load_.most_reads || now_us() - begin_us_ >= load_.least_us ||
                   (load_.is_wanted && !load_.is_wanted(next.bytes));
        return is_over_;
    }

    Status submit_next(uint64_t lane) {
        const ProbeRange& range = load_.ranges[submitted_ % load_.ranges.size()];
        if (submitted_ > 0 && is_over(range)) return {};
        submitted_++;
        started_us_[lane] = now_us();
        const BlockRead read{range.file, range.offset, range.bytes, lanes_.destination(lane), lane, kProbeName};
        return reader_.submit(std::span(&read, 1));
    }
    Status collect(Status& first_error) {
        completions_.clear();
        HYPURA_TRY(reader_.collect(completions_, true));
        const int64_t at_us = now_us();
        for (const BlockCompletion& completion : completions_) {
            if (first_error && !completion.status) first_error = completion.status;
            latencies_us_.push_back(at_us - started_us_[completion.tag]);
            if (first_error) HYPURA_TRY(submit_next(completion.tag));
        }
        return {};
    }
    void fill_latencies() {
        std::ranges::sort(latencies_us_);
        result_.reads = latencies_us_.size();
        result_.median_us = latencies_us_[latencies_us_.size() / 2];
        result_.p99_us = latencies_us_[latencies_us_.size() * 99 / 100];
    }

    BlockReader& reader_;
    const ProbeLoad& load_;
    const Lanes& lanes_;
    std::vector<int64_t> started_us_;  // by lane
    std::vector<int64_t> latencies_us_;
    std::vector<BlockCompletion> completions_;
    uint64_t submitted_ = 0;
    bool is_over_ = false;
    int64_t begin_us_ = 0;
    ProbeResult result_;
};

}  // namespace

double ProbeResult::bytes_per_second() const {
    return static_cast<double>(bytes) * 1e6 / static_cast<double>(std::max<int64_t>(wall_us, 1));
}

double ProbeResult::cpu_seconds_per_gib() const {
    return bytes == 0 ? 0 : static_cast<double>(cpu_us) / 1e6 / (static_cast<double>(bytes) / kGiB);
}

Result<ProbeResult> probe_reads(BlockReader& reader, const ProbeLoad& load) {
    if (load.ranges.empty() || load.depth == 0)
        return fail(ErrorCode::kInvalidArgument, "there is nothing to read, or no depth to read it at");
    HYPURA_ASSIGN(const Lanes lanes, Lanes::create(load.depth, largest(load.ranges)));
    return Probe(reader, load, lanes).run();
}

}  // namespace hypura::storage
