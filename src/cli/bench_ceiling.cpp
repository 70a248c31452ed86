#include "cli/bench_ceiling.h"

#include "base/bytes.h"
#include "storage/read_probe.h"

#include <algorithm>
#include <limits>
#include <random>

namespace hypura::cli {
namespace {

constexpr uint32_t kDepths[] = {4, 8, 16, 32, 64};
constexpr uint64_t kMostMemoryBytes = 512 * kMiB;
// Of reads beside a computation: enough to keep a disk at work.
constexpr uint32_t kSideDepth = 8;

Result<std::unique_ptr<storage::BlockReader>> open_reader(std::span<const std::string> paths,
                                                          storage::ReaderKind kind) {
    std::vector<storage::DirectFile> files;
    for (const std::string& path : paths) {
        HYPURA_ASSIGN(auto file, storage::DirectFile::open(path));
        files.push_back(std::move(file));
    }
    HYPURA_ASSIGN(auto raw, storage::make_raw_reader({.kind = kind}));
    return std::make_unique<storage::BlockReader>(std::move(raw), std::move(files));
}

std::vector<storage::ProbeRange> shuffled(std::span<const std::array<uint64_t, 3>> slices, uint32_t seed) {
    std::vector<storage::ProbeRange> ranges;
    for (const auto& [file, offset, bytes] : slices) ranges.push_back({static_cast<uint32_t>(file), offset, bytes});
    std::ranges::shuffle(ranges, std::mt19937(seed));
    return ranges;
}

uint64_t largest(std::span<const storage::ProbeRange> ranges) {
    return std::ranges::max(ranges, {}, &storage::ProbeRange::bytes).bytes;
}

}  // namespace

std::vector<std::string> part_paths(const gguf::ModelFile& model) {
    std::vector<std::string> paths;
    for (const gguf::Part& part : model.parts) paths.push_back(part.path);
    return paths;
}

Result<Ceiling> measure_ceiling(std::span<const std::string> paths, std::span<const std::array<uint64_t, 3>> slices,
                                storage::ReaderKind kind, double seconds, uint32_t seed) {
    if (slices.empty()) return Ceiling{};
    HYPURA_ASSIGN(const auto reader, open_reader(paths, kind));
    std::vector<storage::ProbeRange> ranges = shuffled(slices, seed);
    Ceiling best;
    const auto measure_us = static_cast<int64_t>(seconds * 1e6 / 2);
    const int64_t search_us = measure_us / static_cast<int64_t>(std::size(kDepths));
    for (const uint32_t depth : kDepths) {
        if (depth > kDepths[0] && depth * largest(ranges) > kMostMemoryBytes) break;
        HYPURA_ASSIGN(const auto probed, storage::probe_reads(*reader, {ranges, depth, search_us}));
        std::ranges::rotate(ranges, ranges.begin() + static_cast<std::ptrdiff_t>(probed.reads % ranges.size()));
        if (probed.bytes_per_second() > best.bytes_per_second) best = {probed.bytes_per_second(), depth};
    }
    HYPURA_ASSIGN(const auto probed, storage::probe_reads(*reader, {ranges, best.depth, measure_us}));
    return Ceiling{probed.bytes_per_second(), best.depth};
}

// ---- reads beside a computation ------------------------------------------------------------------------------------

Result<std::unique_ptr<SideReads>> SideReads::create(std::span<const std::string> paths,
                                                     std::span<const std::array<uint64_t, 3>> slices,
                                                     storage::ReaderKind kind) {
    if (slices.empty()) return fail(ErrorCode::kInvalidArgument, "nothing is streamed that could be read");
    HYPURA_ASSIGN(auto reader, open_reader(paths, kind));
    return std::unique_ptr<SideReads>(new SideReads(std::move(reader), shuffled(slices, 0)));
}

SideReads::SideReads(std::unique_ptr<storage::BlockReader> reader, std::vector<storage::ProbeRange> ranges)
    : reader_(std::move(reader)),
      ranges_(std::move(ranges)),
      thread_([this](const std::stop_token& stop) { read_all(stop); }) {}

SideReads::~SideReads() = default;

void SideReads::allow(uint64_t bytes) {
    const std::scoped_lock lock(mutex_);
    allowed_bytes_ += bytes;
    more_.notify_one();
}

uint64_t SideReads::begun_bytes() const {
    const std::scoped_lock lock(mutex_);
    return begun_bytes_;
}

// A read that fails ends them all: then too few bytes have begun, and the caller sees that.
void SideReads::read_all(const std::stop_token& stop) {
    const auto is_wanted = [&](uint64_t bytes) {
        std::unique_lock lock(mutex_);
        if (!more_.wait(lock, stop, [&] { return begun_bytes_ + bytes <= allowed_bytes_; })) return false;
        begun_bytes_ += bytes;
        return true;
    };
    (void)storage::probe_reads(*reader_, {.ranges = ranges_,
                                          .depth = kSideDepth,
                                          .least_us = std::numeric_limits<int64_t>::max(),
                                          .is_wanted = is_wanted});
}

}  // namespace hypura::cli
