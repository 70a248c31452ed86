// What the disk gives at a run's own requests: the ceiling that its reading is measured against. And such reads beside
// a computation that waits for none of them: what reading costs it even so.
#pragma once

#include "cli/bench_sample.h"
#include "gguf/reader.h"
#include "storage/read_probe.h"
#include "storage/reader.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace hypura::cli {

// Where the model's parts are, in the order that a slice's file number counts in.
std::vector<std::string> part_paths(const gguf::ModelFile& model);

struct Ceiling {
    double bytes_per_second = 0;
    uint32_t depth = 0;  // slices outstanding, the best of those tried
};

// Reads the run's slices in random order through the same kind of reader into huge pages, nothing being computed: short
// windows, half of `seconds` together, find the best depth; a longer one measures it. `paths`: the model's parts.
Result<Ceiling> measure_ceiling(std::span<const std::string> paths, std::span<const std::array<uint64_t, 3>> slices,
                                storage::ReaderKind kind, double seconds, uint32_t seed);

// Reads slices in random order on a thread of its own, as many bytes as it is allowed, and leaves them alone.
class SideReads {
public:
    static Result<std::unique_ptr<SideReads>> create(std::span<const std::string> paths,
                                                     std::span<const std::array<uint64_t, 3>> slices,
                                                     storage::ReaderKind kind);
    ~SideReads();
    SideReads(const SideReads&) = delete;

    // So many more bytes from now on. Any thread.
    void allow(uint64_t bytes);
    // Of those allowed. Any thread.
    uint64_t begun_bytes() const;

private:
    SideReads(std::unique_ptr<storage::BlockReader> reader, std::vector<storage::ProbeRange> ranges);
    void read_all(const std::stop_token& stop);

    const std::unique_ptr<storage::BlockReader> reader_;
    const std::vector<storage::ProbeRange> ranges_;
    mutable std::mutex mutex_;
    std::condition_variable_any more_;
    uint64_t allowed_bytes_ = 0, begun_bytes_ = 0;
    std::jthread thread_;  // last: it uses all of the above
};

}  // namespace hypura::cli
