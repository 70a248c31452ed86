#include "engine/sampler.h"

#include "base/check.h"

#include <llama.h>

#include <cmath>
#include <vector>

namespace hypura::engine {
namespace {

struct ChainDeleter {
    void operator()(llama_sampler* chain) const { llama_sampler_free(chain); }
};
using Chain = std::unique_ptr<llama_sampler, ChainDeleter>;

// libllama asserts on some of these and computes nonsense with others.
Status check_options(const SamplingOptions& options) {
    if (!std::isfinite(options.temperature))
        return fail(ErrorCode::kInvalidArgument, "the temperature must be a number");
    if (!(options.top_p > 0.0F && options.top_p <= 1.0F))
        return fail(ErrorCode::kInvalidArgument, "top-p must be more than 0 and at most 1, not {}", options.top_p);
    if (!(options.min_p >= 0.0F && options.min_p <= 1.0F))
        return fail(ErrorCode::kInvalidArgument, "min-p must be between 0 and 1, not {}", options.min_p);
    if (!(options.repeat_penalty > 0.0F) || !std::isfinite(options.repeat_penalty))
        return fail(ErrorCode::kInvalidArgument, "the repeat penalty must be more than 0, not {}",
                    options.repeat_penalty);
    return {};
}

void add_penalties(llama_sampler* chain, const SamplingOptions& options, int32_t vocabulary_tokens) {
    const bool neutral = options.repeat_penalty == 1.0F || options.repeat_last_tokens <= 0;
    if (neutral) return;
    llama_sampler_chain_add(chain, llama_sampler_init_penalties(vocabulary_tokens, options.repeat_last_tokens,
                                                                options.repeat_penalty, 0.0F, 0.0F));
}

void add_random_choice(llama_sampler* chain, const SamplingOptions& options) {
    constexpr size_t kKeepAtLeast = 1;
    llama_sampler_chain_add(chain, llama_sampler_init_top_k(options.top_k));
    llama_sampler_chain_add(chain, llama_sampler_init_top_p(options.top_p, kKeepAtLeast));
    llama_sampler_chain_add(chain, llama_sampler_init_min_p(options.min_p, kKeepAtLeast));
    llama_sampler_chain_add(chain, llama_sampler_init_temp(options.temperature));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(options.seed));
}

Chain make_chain(const SamplingOptions& options, int32_t vocabulary_tokens) {
    Chain chain(llama_sampler_chain_init(llama_sampler_chain_default_params()));
    add_penalties(chain.get(), options, vocabulary_tokens);
    if (options.temperature <= 0.0F)
        llama_sampler_chain_add(chain.get(), llama_sampler_init_greedy());
    else
        add_random_choice(chain.get(), options);
    return chain;
}

}  // namespace

struct Sampler::State {
    Chain chain;
    std::vector<llama_token_data> candidates;  // kept between calls: a vocabulary is some 200,000 entries
};

Sampler::Sampler(std::unique_ptr<State> state) : state_(std::move(state)) {}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;

Result<Sampler> Sampler::create(const Engine& engine, const SamplingOptions& options) {
    HYPURA_TRY(check_options(options));
    const uint32_t tokens = engine.vocabulary_tokens();
    auto state = std::make_unique<State>();
    state->chain = make_chain(options, static_cast<int32_t>(tokens));
    state->candidates.resize(tokens);
    return Sampler(std::move(state));
}

Token Sampler::sample(std::span<const float> logits) {
    std::vector<llama_token_data>& candidates = state_->candidates;
    HYPURA_CHECK(logits.size() == candidates.size());
    for (size_t i = 0; i < logits.size(); ++i) candidates[i] = {static_cast<Token>(i), logits[i], 0.0F};

    llama_token_data_array array{candidates.data(), candidates.size(), -1, false};
    llama_sampler_apply(state_->chain.get(), &array);
    HYPURA_CHECK(array.selected >= 0 && static_cast<size_t>(array.selected) < array.size);

    const Token token = array.data[array.selected].id;
    accept(token);
    return token;
}

void Sampler::accept(Token token) { llama_sampler_accept(state_->chain.get(), token); }

void Sampler::reset() { llama_sampler_reset(state_->chain.get()); }

}  // namespace hypura::engine
