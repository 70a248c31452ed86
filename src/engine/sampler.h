// Chooses the next token from logits: libllama's own sampler chain, in llama.cpp's usual order
// (biases, penalties, top-k, typical-p, top-p, min-p, temperature, draw), within a grammar if there is one.
#pragma once

#include "engine/engine.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace hypura::engine {

// What may be said, in llama.cpp's GBNF notation.
struct Grammar {
    std::string text;
    std::string root = "root";
    // Lazy: nothing is constrained until one of the trigger tokens comes, or the text so far matches one of the
    // patterns (regular expressions, from the beginning of the answer; the grammar then begins at the first group).
    // Both empty: from the beginning.
    std::vector<std::string> trigger_patterns;
    std::vector<Token> trigger_tokens;
};

struct LogitBias {
    Token token = 0;
    float bias = 0.0F;  // added to the logit; -infinity forbids the token
};

struct SamplingOptions {
    float temperature = 0.8F;  // <= 0: greedy
    int32_t top_k = 40;        // <= 0: all
    float top_p = 0.95F;
    float min_p = 0.05F;
    float typical_p = 1.0F;           // 1: off
    float repeat_penalty = 1.0F;      // 1: off
    float frequency_penalty = 0.0F;   // 0: off
    float presence_penalty = 0.0F;    // 0: off
    int32_t repeat_last_tokens = 64;  // that the three penalties look at; 0: none
    uint32_t seed = 0xFFFFFFFF;       // 0xFFFFFFFF: random
    std::vector<LogitBias> biases;
    std::optional<Grammar> grammar;
};

struct TokenLogprob {
    Token token = 0;
    float logprob = 0.0F;  // natural logarithm, of the softmax of the model's own logits, before biases and sampling
};

// The `count` likeliest tokens, best first, after the softmax of a row of logits; fewer where the row is shorter.
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, size_t count);
float logprob_of(std::span<const float> logits, Token token);

// kInvalidArgument for numbers that mean nothing, or nothing to libllama. Sampler::create checks them too; this is for
// asking before there is a model.
Status check_sampling(const SamplingOptions& options);

class Sampler {
public:
    // Errors: kInvalidArgument for options that mean nothing and grammars that do not parse (where and why, libllama
    // only prints to stderr);
    // kUnsupportedModel for a grammar over a model without a vocabulary.
    static Result<Sampler> create(const Engine& engine, const SamplingOptions& options);
    Sampler(Sampler&&) noexcept;
    Sampler& operator=(Sampler&&) noexcept;
    ~Sampler();

    // Draws from [vocabulary_tokens] logits, and remembers the token for the penalties and the grammar.
    // Errors: kInternal where the grammar allows no token at all.
    Result<Token> sample(std::span<const float> logits);
    void accept(Token token);  // a token of the prompt: the penalties see it, the grammar does not

private:
    struct State;
    explicit Sampler(std::unique_ptr<State> state);
    Token choose(std::span<const float> logits, bool within_grammar);
    bool grammar_allows(Token token);

    std::unique_ptr<State> state_;
};

}  // namespace hypura::engine
