// Seconds a token or a pass takes, from bytes and measured rates. docs/placement.md derives the formulas.
//
//     decode   T = cubic mean of stalls for experts + max(arithmetic, reading dense weights), and of all reading;
//                  without experts the larger of both                       streamed
//              T = arithmetic + what the page cache misses                   mapped
//              T = arithmetic                                                resident
#pragma once

#include "placement/machine.h"
#include "placement/miss_curve.h"
#include "placement/model_demand.h"
#include "placement/stream_plan.h"

#include <cstdint>
#include <string>

namespace hypura::placement {

// What one mode is predicted to do. Times are of one token in decoding.
struct Prediction {
    double token_s = 0;
    double compute_s = 0;       // arithmetic, reading weights from memory included
    double read_s = 0;          // the disk is busy
    double exposed_read_s = 0;  // of which the arithmetic stands still
    double read_bytes_per_token = 0;
    double expert_miss = 0;  // share of expert demands that are read
    double prefill_tokens_per_second = 0;
    double first_token_s = 0;  // of a prompt of Workload::prompt_tokens, the model loaded
    double load_s = 0;

    double decode_tokens_per_second() const { return token_s > 0 ? 1 / token_s : 0; }
    std::string bottleneck() const;  // "disk", "memory and processor"
};

// What is predicted for.
struct Workload {
    uint32_t prompt_tokens = 512;
    uint32_t depth_tokens = 512;  // of context that a decoded token attends to
    uint32_t batch_tokens = 512;  // most tokens a pass
    Routing routing;
};

// A disk at the request sizes and queue depths of streaming.
struct CostInputs {
    const ModelDemand& demand;
    const Machine& machine;
    const DiskProfile& disk;
    Workload workload;
    double cache_bytes_per_value = 2;  // of the KV cache: 2 in f16
};

Prediction predict_resident(const CostInputs& inputs);
// `cache_bytes`: memory that is left for the page cache.
Prediction predict_mmap(const CostInputs& inputs, uint64_t cache_bytes);
// `layout` is plan_streaming's answer to `problem`.
Prediction predict_stream(const CostInputs& inputs, const StreamProblem& problem, const StreamPlan& layout);

// Seconds of arithmetic for a pass of `tokens`, on the machine's first device.
double compute_seconds(const CostInputs& inputs, double tokens, bool repacked);

// Of the prompt, in a pass.
double pass_tokens(const CostInputs& inputs);
// Sets what a prompt takes, in passes of `pass_s` each.
void fill_prefill(Prediction& prediction, const CostInputs& inputs, double pass_s);

}  // namespace hypura::placement
