// Does streaming compute exactly what plain libllama computes?
#pragma once

#include "engine/engine.h"

#include <string>
#include <vector>

namespace hypura::engine {

struct VerifyOptions {
    EngineOptions engine;        // the budget under test; mode is forced to kStream
    uint32_t decode_tokens = 8;  // single-token passes after the prompt
    uint32_t seed = 1;
};

// One budget's outcome.
struct VerifyRun {
    std::string budget;  // "smallest pool", "4.00 GiB"
    uint64_t slot_bytes = 0;
    uint64_t logits_compared = 0;
    uint64_t logits_different = 0;
    double largest_error = 0;         // of a logit, as a share of the largest one of its row
    size_t first_difference_row = 0;  // meaningful when logits_different > 0
    Report report;                    // of the streaming engine
};

struct VerifyResult {
    std::vector<VerifyRun> runs;  // smallest pool first, then the given budget if there is one
    bool identical() const;
    // Identical, or with devices, whose arithmetic differs from the processor's: no error above kDeviceTolerance.
    bool passed() const;
};
inline constexpr double kDeviceTolerance = 2e-3;

// Runs one sequence of random tokens (a prompt batch, single tokens, small batches) through plain libllama and through
// streaming at the smallest workable pool and at the given budget, there with a prompt in one long pass before them;
// compares every logit bit for bit, of the long prompt the last token's. Devices that the options name take part in the
// streaming side alone. Needs no vocabulary in the model.
Result<VerifyResult> verify(const VerifyOptions& options);

// Teacher-forced run: raw float32 logits, [tokens, vocabulary_tokens] row-major, native byte order.
Status write_logits(const EngineOptions& options, std::span<const Token> tokens, const std::string& out_path);

}  // namespace hypura::engine
