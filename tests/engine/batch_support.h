// Running batches to their end, and gathering what each sequence got.
#pragma once

#include "engine/batch_engine.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace hypura::engine::test {

inline EngineOptions demo_options(uint32_t sequences) {
    EngineOptions options;
    options.model_path = HYPURA_DEMO_MODEL;
    options.mode = Mode::kStream;
    options.weights_bytes = 8u << 20;
    options.context_tokens = 1024;
    options.sequences = sequences;
    options.kept_prefixes = 8;
    options.batch_tokens = 64;
    options.threads = 1;
    return options;
}

// A batch and the engine beneath it.
struct Opened {
    std::unique_ptr<Engine> engine;
    std::unique_ptr<BatchEngine> batch;
};

inline Opened open_batch(const EngineOptions& options, const BatchOptions& batch_options = {}) {
    Opened opened;
    auto engine = Engine::open(options);
    EXPECT_TRUE(engine) << engine.error().message;
    if (!engine) std::abort();
    opened.engine = std::move(*engine);
    auto batch = opened.engine->new_batch(batch_options);
    EXPECT_TRUE(batch) << batch.error().message;
    if (!batch) std::abort();
    opened.batch = std::move(*batch);
    return opened;
}

// What one sequence got.
struct Outcome {
    std::vector<Token> tokens;
    std::vector<Sampled> sampled;
    std::vector<PromptProgress> progress;
    std::vector<float> embedding;
    std::vector<size_t> token_steps;  // the step, from 0, in which each token came
    Finished finished;
    int ends = 0;  // Finished events: one, in the end
};
using Outcomes = std::map<SequenceId, Outcome>;

inline void note(Outcomes& outcomes, const std::vector<SequenceEvent>& events, size_t step = 0) {
    for (const SequenceEvent& event : events) {
        Outcome& outcome = outcomes[event.sequence];
        EXPECT_EQ(outcome.ends, 0) << "an event after the last one";
        if (const auto* progress = std::get_if<PromptProgress>(&event.what)) outcome.progress.push_back(*progress);
        if (const auto* embedded = std::get_if<Embedded>(&event.what)) outcome.embedding = embedded->values;
        if (const auto* sampled = std::get_if<Sampled>(&event.what)) {
            outcome.tokens.push_back(sampled->token);
            outcome.sampled.push_back(*sampled);
            outcome.token_steps.push_back(step);
        }
        if (const auto* finished = std::get_if<Finished>(&event.what)) {
            outcome.finished = *finished;
            ++outcome.ends;
        }
    }
}

inline Outcomes run_all(BatchEngine& batch, size_t most_steps = 10'000) {
    Outcomes outcomes;
    for (size_t step = 0; batch.has_work(); ++step) {
        if (step == most_steps) {
            ADD_FAILURE() << "the batch does not come to an end";
            break;
        }
        note(outcomes, batch.step(), step);
    }
    for (const auto& [id, outcome] : outcomes) EXPECT_EQ(outcome.ends, 1) << id;
    return outcomes;
}

inline std::vector<Token> chat_prompt(const Engine& engine, const std::string& question) {
    return engine.tokenize("<|im_start|>user\n" + question + "<|im_end|>\n<|im_start|>assistant\n", true, true).value();
}

inline SamplingOptions greedy() { return {.temperature = 0.0F}; }

inline GenerateRequest greedy_request(std::vector<Token> prompt, uint32_t max_tokens) {
    GenerateRequest request;
    request.prompt = std::move(prompt);
    request.sampling = greedy();
    request.max_tokens = max_tokens;
    return request;
}

inline std::vector<Token> numbered(Token first, size_t count) {
    std::vector<Token> tokens(count);
    for (size_t i = 0; i < count; ++i) tokens[i] = first + static_cast<Token>(i);
    return tokens;
}

}  // namespace hypura::engine::test
