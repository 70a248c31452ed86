// How a benchmark is shown: a table for the terminal, JSON to keep, Markdown from the JSON, a picture.
#pragma once

#include "cli/bench_metrics.h"
#include "cli/chart.h"

#include <string>
#include <vector>

namespace hypura::cli {

struct BenchResult {
    std::string model;
    uint64_t model_bytes = 0;
    uint64_t limit_bytes = 0;  // of each program; 0: none
    std::string limit_kind;    // "cgroup v1", "cgroup v2", empty
    std::string cache;         // what was done about the page cache before each run
    uint32_t threads = 0;
    uint32_t rounds = 0;
    std::vector<std::string> notes;  // what could not be done, and why
    std::vector<CaseResult> cases;
};

std::string bench_text(const BenchResult& result);
std::string bench_json(const BenchResult& result);

// One table row a case, from files that bench_json wrote. kInvalidArgument when `text` is not such a file.
Result<std::string> bench_markdown(const std::vector<std::string>& texts);

Chart bench_chart(const BenchResult& result);

}  // namespace hypura::cli
