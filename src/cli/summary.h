// What a run did, for people (the closing summary) and for programs (--stats).
#pragma once

#include "engine/engine.h"
#include "engine/generate.h"

#include <string>

namespace hypura::cli {

// All answers of one run added up.
struct RunTotals {
    size_t answers = 0;
    size_t prompt_tokens = 0;  // that were really computed, not those re-used from the turn before
    size_t generated_tokens = 0;
    size_t decode_steps = 0;  // generated tokens but for each answer's first, which the prompt pass yields
    int64_t prompt_us = 0;
    int64_t decode_us = 0;
    int64_t first_token_us = 0;                                // of the first answer
    engine::StopReason stop = engine::StopReason::kEndOfText;  // of the last answer

    void add(const engine::GenerateResult& answer);
    double prompt_rate() const;  // tokens a second; 0 when nothing was measured
    double decode_rate() const;
};

double hit_rate(const engine::Report& report);   // 0 to 1; 1 when nothing was demanded
double read_rate(const engine::Report& report);  // bytes a second while reads were under way

// Several lines, each ending in a newline.
std::string summary_text(const engine::Report& report, const RunTotals& totals);
// One JSON object; keys are listed in docs/hypura.1.
std::string summary_json(const engine::Report& report, const RunTotals& totals);

}  // namespace hypura::cli
