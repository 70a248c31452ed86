// Chooses the next token from logits: libllama's own sampler chain, in llama.cpp's usual order
// (penalties, top-k, top-p, min-p, temperature, draw).
#pragma once

#include "engine/engine.h"

#include <memory>

namespace hypura::engine {

struct SamplingOptions {
    float temperature = 0.8F;  // <= 0: greedy
    int32_t top_k = 40;        // <= 0: all
    float top_p = 0.95F;
    float min_p = 0.05F;
    float repeat_penalty = 1.0F;
    int32_t repeat_last_tokens = 64;
    uint32_t seed = 0xFFFFFFFF;  // 0xFFFFFFFF: random
};

class Sampler {
public:
    static Result<Sampler> create(const Engine& engine, const SamplingOptions& options);
    Sampler(Sampler&&) noexcept;
    Sampler& operator=(Sampler&&) noexcept;
    ~Sampler();

    // Draws from [vocabulary_tokens] logits and remembers the token for the penalties.
    Token sample(std::span<const float> logits);
    void accept(Token token);  // a token of the prompt
    void reset();

private:
    struct State;
    explicit Sampler(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace hypura::engine
