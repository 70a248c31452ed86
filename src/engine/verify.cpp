#include "engine/verify.h"

#include "base/bytes.h"
#include "base/output_file.h"
#include "engine/draft_pace.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace hypura::engine {
namespace {

constexpr uint32_t kBatchTokens = 8;         // small, so that the smallest pool is small and evictions are many
constexpr uint32_t kLongPromptTokens = 512;  // libggml has kernels of their own for many rows
constexpr uint32_t kMostDecodeTokens = 128;
constexpr uint32_t kContextTokens = 1024;

struct Step {
    std::vector<Token> tokens;
    LogitsWanted logits = LogitsWanted::kAll;
};
using Steps = std::vector<Step>;

Step random_step(size_t tokens, LogitsWanted logits, uint32_t vocabulary, std::mt19937& random) {
    Step step{std::vector<Token>(tokens), logits};
    std::ranges::generate(step.tokens, [&] { return static_cast<Token>(random() % std::max(vocabulary, 1U)); });
    return step;
}

// A long prompt in one pass, if passes may be long (all of its logits would be asked for in short ones); a short one,
// single tokens, small batches, and passes as drafts make them, which plain libllama computes token by token.
Steps make_steps(const VerifyOptions& wanted, uint32_t vocabulary, uint32_t batch_tokens, bool drafts) {
    std::mt19937 random(wanted.seed);
    std::vector<size_t> lengths = {8, 1, 1, 3, 13};
    lengths.insert(lengths.end(), std::min(wanted.decode_tokens, kMostDecodeTokens), 1);
    Steps steps;
    if (batch_tokens > kBatchTokens)
        steps.push_back(
            random_step(std::min(batch_tokens, kLongPromptTokens), LogitsWanted::kLast, vocabulary, random));
    for (const size_t length : lengths) steps.push_back(random_step(length, LogitsWanted::kAll, vocabulary, random));
    for (const size_t length : {size_t{2}, DraftPace::kMostPassTokens})
        if (drafts) steps.push_back(random_step(length, LogitsWanted::kOneByOne, vocabulary, random));
    return steps;
}

Result<std::vector<float>> run_steps(Engine& engine, const Steps& steps) {
    HYPURA_ASSIGN(const auto session, engine.new_session());
    std::vector<float> all;
    for (const Step& step : steps) {
        HYPURA_TRY(session->evaluate(step.tokens, step.logits));
        const size_t rows = step.logits == LogitsWanted::kLast ? 1 : step.tokens.size();
        for (size_t row = 0; row < rows; ++row) {
            const std::span<const float> logits = session->logits(row);
            all.insert(all.end(), logits.begin(), logits.end());
        }
    }
    return all;
}

EngineOptions reference_options(EngineOptions options, uint32_t batch_tokens) {
    options.mode = Mode::kMmap;
    options.plain_reference = true;
    options.batch_tokens = batch_tokens;
    options.fault = {};
    options.drafts = DraftKind::kNone;
    return options;
}

void compare(const std::vector<float>& expected, const std::vector<float>& actual, size_t row_floats, VerifyRun& run) {
    run.logits_compared = std::min(expected.size(), actual.size());
    run.logits_different = std::max(expected.size(), actual.size()) - run.logits_compared;
    for (size_t i = 0; i < run.logits_compared; ++i) {
        if (std::memcmp(&expected[i], &actual[i], sizeof(float)) == 0) continue;
        if (run.logits_different++ == 0) run.first_difference_row = i / std::max<size_t>(row_floats, 1);
    }
}

// A NaN on one side alone is an error as large as can be.
double largest_error(const std::vector<float>& expected, const std::vector<float>& actual, size_t row_floats) {
    double largest = 0;
    const size_t floats = std::min(expected.size(), actual.size());
    for (size_t begin = 0; row_floats > 0 && begin < floats; begin += row_floats) {
        double scale = 0, error = 0;
        for (size_t i = begin; i < std::min(begin + row_floats, floats); ++i) {
            if (std::isnan(expected[i]) && std::isnan(actual[i])) continue;
            const double difference = std::abs(double{expected[i]} - double{actual[i]});
            error = std::isnan(difference) ? HUGE_VAL : std::max(error, difference);
            if (!std::isnan(expected[i])) scale = std::max(scale, std::abs(double{expected[i]}));
        }
        largest = std::max(largest, error == 0 ? 0 : error / scale);
    }
    return largest;
}

// One budget, streaming, then plain libllama with the same batch size: batch sizes change rounding, budgets must not.
Result<VerifyRun> verify_budget(const EngineOptions& options, std::string budget, const VerifyOptions& wanted) {
    VerifyRun run{.budget = std::move(budget)};
    Steps steps;
    std::vector<float> streamed;
    {
        HYPURA_ASSIGN(const auto engine, Engine::open(options));
        steps = make_steps(wanted, engine->vocabulary_tokens(), engine->report().batch_tokens,
                           engine->report().drafts != "none");
        HYPURA_ASSIGN(streamed, run_steps(*engine, steps));
        run.report = engine->report();
        run.slot_bytes = run.report.slot_bytes;
    }
    HYPURA_ASSIGN(const auto plain, Engine::open(reference_options(options, run.report.batch_tokens)));
    HYPURA_ASSIGN(const std::vector<float> expected, run_steps(*plain, steps));
    compare(expected, streamed, plain->vocabulary_tokens(), run);
    run.largest_error = largest_error(expected, streamed, plain->vocabulary_tokens());
    return run;
}

EngineOptions streaming_options(const EngineOptions& options) {
    EngineOptions streaming = options;
    streaming.mode = Mode::kStream;
    streaming.context_tokens = options.context_tokens > 0 ? options.context_tokens : kContextTokens;
    return streaming;
}

EngineOptions smallest_pool(EngineOptions streaming) {
    streaming.smallest_pool = true;
    streaming.batch_tokens = kBatchTokens;
    return streaming;
}

}  // namespace

bool VerifyResult::identical() const {
    return std::ranges::all_of(
        runs, [](const VerifyRun& run) { return run.logits_different == 0 && run.logits_compared > 0; });
}

bool VerifyResult::passed() const {
    const auto close_enough = [](const VerifyRun& run) {
        return !run.report.devices.empty() && run.logits_compared > 0 && run.largest_error <= kDeviceTolerance;
    };
    return identical() || std::ranges::all_of(runs, close_enough);
}

Result<VerifyResult> verify(const VerifyOptions& options) {
    VerifyResult result;
    const EngineOptions streaming = streaming_options(options.engine);
    HYPURA_ASSIGN(VerifyRun smallest, verify_budget(smallest_pool(streaming), "smallest pool", options));
    result.runs.push_back(std::move(smallest));
    const uint64_t budget_bytes = std::max(streaming.ram_bytes, streaming.weights_bytes);
    if (budget_bytes == 0) return result;
    HYPURA_ASSIGN(VerifyRun given, verify_budget(streaming, format_bytes(budget_bytes), options));
    result.runs.push_back(std::move(given));
    return result;
}

Status write_logits(const EngineOptions& options, std::span<const Token> tokens, const std::string& out_path) {
    HYPURA_ASSIGN(const auto engine, Engine::open(options));
    HYPURA_ASSIGN(const auto session, engine->new_session());
    HYPURA_TRY(session->evaluate(tokens, LogitsWanted::kAll));
    HYPURA_ASSIGN(OutputFile out, OutputFile::create(out_path));
    for (size_t row = 0; row < tokens.size(); ++row) HYPURA_TRY(out.write(std::as_bytes(session->logits(row))));
    return out.close();
}

}  // namespace hypura::engine
