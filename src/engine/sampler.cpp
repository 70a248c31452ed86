#include "engine/sampler.h"

#include "base/check.h"
#include "engine/llama_handles.h"
#include "engine/llama_library.h"

#include <llama.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <vector>

namespace hypura::engine {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();

}  // namespace

// libllama asserts on some of these and computes nonsense with others.
Status check_sampling(const SamplingOptions& options) {
    if (!std::isfinite(options.temperature))
        return fail(ErrorCode::kInvalidArgument, "the temperature must be a number");
    if (!(options.top_p > 0.0F && options.top_p <= 1.0F))
        return fail(ErrorCode::kInvalidArgument, "top-p must be more than 0 and at most 1, not {}", options.top_p);
    if (!(options.typical_p > 0.0F && options.typical_p <= 1.0F))
        return fail(ErrorCode::kInvalidArgument, "typical-p must be more than 0 and at most 1, not {}",
                    options.typical_p);
    if (!(options.min_p >= 0.0F && options.min_p <= 1.0F))
        return fail(ErrorCode::kInvalidArgument, "min-p must be between 0 and 1, not {}", options.min_p);
    if (!(options.repeat_penalty > 0.0F) || !std::isfinite(options.repeat_penalty))
        return fail(ErrorCode::kInvalidArgument, "the repeat penalty must be more than 0, not {}",
                    options.repeat_penalty);
    if (!std::isfinite(options.frequency_penalty) || !std::isfinite(options.presence_penalty))
        return fail(ErrorCode::kInvalidArgument, "frequency and presence penalties must be numbers");
    return {};
}

namespace {

Status check_biases(const SamplingOptions& options, uint32_t vocabulary_tokens) {
    for (const LogitBias& bias : options.biases) {
        if (bias.token < 0 || static_cast<uint32_t>(bias.token) >= vocabulary_tokens)
            return fail(ErrorCode::kInvalidArgument, "there is no token {} to give a bias to (the vocabulary has {})",
                        bias.token, vocabulary_tokens);
        if (std::isnan(bias.bias) || bias.bias == std::numeric_limits<float>::infinity())
            return fail(ErrorCode::kInvalidArgument, "the bias of token {} must be a number or -infinity", bias.token);
    }
    return {};
}

void add_biases(llama_sampler* chain, const SamplingOptions& options, int32_t vocabulary_tokens) {
    if (options.biases.empty()) return;
    std::vector<llama_logit_bias> biases;
    biases.reserve(options.biases.size());
    for (const LogitBias& bias : options.biases) biases.push_back({bias.token, bias.bias});
    llama_sampler_chain_add(
        chain, llama_sampler_init_logit_bias(vocabulary_tokens, static_cast<int32_t>(biases.size()), biases.data()));
}

void add_penalties(llama_sampler* chain, const SamplingOptions& options, int32_t vocabulary_tokens) {
    const bool neutral =
        options.repeat_penalty == 1.0F && options.frequency_penalty == 0.0F && options.presence_penalty == 0.0F;
    if (neutral || options.repeat_last_tokens <= 0) return;
    llama_sampler_chain_add(
        chain, llama_sampler_init_penalties(vocabulary_tokens, options.repeat_last_tokens, options.repeat_penalty,
                                            options.frequency_penalty, options.presence_penalty));
}

void add_random_choice(llama_sampler* chain, const SamplingOptions& options) {
    constexpr size_t kKeepAtLeast = 1;
    llama_sampler_chain_add(chain, llama_sampler_init_top_k(options.top_k));
    if (options.typical_p < 1.0F)
        llama_sampler_chain_add(chain, llama_sampler_init_typical(options.typical_p, kKeepAtLeast));
    llama_sampler_chain_add(chain, llama_sampler_init_top_p(options.top_p, kKeepAtLeast));
    llama_sampler_chain_add(chain, llama_sampler_init_min_p(options.min_p, kKeepAtLeast));
    llama_sampler_chain_add(chain, llama_sampler_init_temp(options.temperature));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(options.seed));
}

SamplerHandle make_chain(const SamplingOptions& options, int32_t vocabulary_tokens) {
    SamplerHandle chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    add_biases(chain.get(), options, vocabulary_tokens);
    add_penalties(chain.get(), options, vocabulary_tokens);
    if (options.temperature <= 0.0F)
        llama_sampler_chain_add(chain.get(), llama_sampler_init_greedy());
    else
        add_random_choice(chain.get(), options);
    return chain;
}

llama_sampler* init_grammar(const llama_vocab* vocabulary, const Grammar& grammar) {
    if (grammar.trigger_patterns.empty() && grammar.trigger_tokens.empty())
        return llama_sampler_init_grammar(vocabulary, grammar.text.c_str(), grammar.root.c_str());
    std::vector<const char*> patterns;
    patterns.reserve(grammar.trigger_patterns.size());
    for (const std::string& pattern : grammar.trigger_patterns) patterns.push_back(pattern.c_str());
    return llama_sampler_init_grammar_lazy_patterns(vocabulary, grammar.text.c_str(), grammar.root.c_str(),
                                                    patterns.data(), patterns.size(), grammar.trigger_tokens.data(),
                                                    grammar.trigger_tokens.size());
}

Result<SamplerHandle> make_grammar(const Engine& engine, const Grammar& grammar) {
    if (!engine.has_vocabulary())
        return fail(ErrorCode::kUnsupportedModel, "a grammar needs a vocabulary, and this model has none");
    if (grammar.text.empty()) return fail(ErrorCode::kInvalidArgument, "the grammar is empty");
    take_llama_complaints();
    std::string reason;
    try {
        if (llama_sampler* made = init_grammar(engine.llama_vocabulary(), grammar)) return SamplerHandle(made);
    } catch (const std::exception& error) {  // a trigger pattern that is no regular expression, say
        reason = error.what();
    }
    const std::string complaint = take_llama_complaints();
    return fail(ErrorCode::kInvalidArgument, "the grammar cannot be used: {}", complaint.empty() ? reason : complaint);
}

// Of softmax: the logarithm of its denominator, computed so that nothing overflows.
double log_sum_exp(std::span<const float> logits) {
    const double largest = std::ranges::max(logits);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
    return largest + std::log(sum);
}

}  // namespace

std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, size_t count) {
    if (logits.empty() || count == 0) return {};
    std::vector<TokenLogprob> all(logits.size());
    const double denominator = log_sum_exp(logits);
    for (size_t i = 0; i < logits.size(); ++i)
        all[i] = {static_cast<Token>(i), static_cast<float>(logits[i] - denominator)};
    const auto end = all.begin() + static_cast<ptrdiff_t>(std::min(count, all.size()));
    std::ranges::partial_sort(all, end, [](const TokenLogprob& a, const TokenLogprob& b) {
        return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
    });
    all.erase(end, all.end());
    return all;
}

float logprob_of(std::span<const float> logits, Token token) {
    return static_cast<float>(logits[static_cast<size_t>(token)] - log_sum_exp(logits));
}

struct Sampler::State {
    SamplerHandle chain;
    SamplerHandle grammar;                     // null: none
    std::vector<llama_token_data> candidates;  // kept between calls: a vocabulary is some 200,000 entries
};

Sampler::Sampler(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;

Result<Sampler> Sampler::create(const Engine& engine, const SamplingOptions& options) {
    const uint32_t tokens = engine.vocabulary_tokens();
    HYPURA_TRY(check_sampling(options));
    HYPURA_TRY(check_biases(options, tokens));
    auto state = std::make_unique<State>();
    state->chain = make_chain(options, static_cast<int32_t>(tokens));
    if (options.grammar) {
        HYPURA_ASSIGN(state->grammar, make_grammar(engine, *options.grammar));
    }
    state->candidates.resize(tokens);
    return Sampler(std::move(state));
}

// A grammar looks at every candidate, which is slow: most tokens satisfy it as they come, so only a token that does not
// is drawn again among those that do.
Result<Token> Sampler::sample(std::span<const float> logits) {
    try {
        Token token = choose(logits, false);
        if (!grammar_allows(token)) token = choose(logits, true);
        if (!grammar_allows(token))
            return fail(ErrorCode::kInternal, "the grammar allows no token of this vocabulary here");
        accept(token);
        if (state_->grammar) llama_sampler_accept(state_->grammar.get(), token);
        return token;
    } catch (const std::exception& error) {  // libllama's grammar throws where it cannot go on
        return fail(ErrorCode::kInternal, "the grammar failed: {}", error.what());
    }
}

Token Sampler::choose(std::span<const float> logits, bool within_grammar) {
    std::vector<llama_token_data>& candidates = state_->candidates;
    HYPURA_CHECK(logits.size() == candidates.size());
    for (size_t i = 0; i < logits.size(); ++i) candidates[i] = {static_cast<Token>(i), logits[i], 0.0F};
    llama_token_data_array array{candidates.data(), candidates.size(), -1, false};
    if (within_grammar) llama_sampler_apply(state_->grammar.get(), &array);
    llama_sampler_apply(state_->chain.get(), &array);
    HYPURA_CHECK(array.selected >= 0 && static_cast<size_t>(array.selected) < array.size);
    return array.data[array.selected].id;
}

bool Sampler::grammar_allows(Token token) {
    if (!state_->grammar) return true;
    llama_token_data candidate{token, 1.0F, 0.0F};
    llama_token_data_array array{&candidate, 1, -1, false};
    llama_sampler_apply(state_->grammar.get(), &array);
    return candidate.logit != kForbidden;
}

void Sampler::accept(Token token) { llama_sampler_accept(state_->chain.get(), token); }

}  // namespace hypura::engine
