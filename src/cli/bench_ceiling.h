// What the disk gives at a run's own requests: the ceiling that its reading is measured against.
#pragma once

#include "cli/bench_sample.h"
#include "storage/reader.h"

#include <span>
#include <string>

namespace hypura::cli {

struct Ceiling {
    double bytes_per_second = 0;
    uint32_t depth = 0;  // slices outstanding, the best of those tried
};

// Reads the run's slices in random order through the same kind of reader into huge pages, nothing being computed: short
// windows, half of `seconds` together, find the best depth; a longer one measures it. `paths`: the model's parts.
Result<Ceiling> measure_ceiling(std::span<const std::string> paths, std::span<const std::array<uint64_t, 3>> slices,
                                storage::ReaderKind kind, double seconds, uint32_t seed);

}  // namespace hypura::cli
