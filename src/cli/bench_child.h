// The half of `hypura bench` that runs in a process of its own, so that it sits in its own control group and its own
// counters: opens the model, runs one case, prints a ChildReport as JSON.
#pragma once

#include "cli/bench_sample.h"
#include "cli/options.h"

namespace hypura::cli {

// What is run beyond the case itself.
struct ChildExtras {
    // The measured tokens are run a second time from the same position, and that run is reported; with room for every
    // weight it is the same work without a read, the compute floor.
    bool repeat = false;
    // With `repeat`: then a third time, while so many bytes a token are read that nobody waits for. 0: not.
    uint64_t side_bytes_per_token = 0;
};

Status run_bench_child(const EngineFlags& flags, const BenchCase& bench_case, const ChildExtras& extras);

}  // namespace hypura::cli
