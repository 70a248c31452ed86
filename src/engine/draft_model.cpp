#include "engine/draft_model.h"

#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

namespace hypura::engine {
namespace {

constexpr float kLeastProbability = 0.4F;  // of a token that is worth checking

std::span<const std::string> vocabulary_of(const gguf::ModelFile& file) {
    const auto found = file.metadata.find("tokenizer.ggml.tokens");
    const auto* const tokens =
        found == file.metadata.end() ? nullptr : std::get_if<std::vector<std::string>>(&found->second);
    return tokens == nullptr ? std::span<const std::string>() : std::span(*tokens);
}

// How many tokens two models have in common: models of one family pad their vocabularies to different sizes. 0: their
// tokens are not the same.
size_t common_vocabulary(const gguf::ModelFile& a, const gguf::ModelFile& b) {
    const auto tokens_a = vocabulary_of(a), tokens_b = vocabulary_of(b);
    const size_t common = std::min(tokens_a.size(), tokens_b.size());
    const size_t larger = std::max(tokens_a.size(), tokens_b.size());
    const bool same =
        larger - common <= larger / 100 && std::ranges::equal(tokens_a.first(common), tokens_b.first(common));
    return same ? common : 0;
}

}  // namespace

Result<std::unique_ptr<DraftModel>> DraftModel::open(const std::string& path, const gguf::ModelFile& target,
                                                     uint32_t context_tokens, uint32_t threads) {
    HYPURA_ASSIGN(const gguf::ModelFile file, gguf::open_model(path));
    const size_t common_tokens = common_vocabulary(file, target);
    if (common_tokens == 0)
        return fail(ErrorCode::kUnsupportedModel,
                    "{}: its tokens are not those of {}, so it cannot draft for it; name a smaller model of the same "
                    "family",
                    path, target.parts[0].path);
    HYPURA_ASSIGN(auto engine, Engine::open({.model_path = path,
                                             .mode = Mode::kResident,
                                             .context_tokens = context_tokens,
                                             .threads = threads,
                                             .devices = {"none"}}));
    std::unique_ptr<DraftModel> model(new DraftModel(std::move(engine), static_cast<Token>(common_tokens)));
    HYPURA_ASSIGN(model->session_, model->engine_->new_session());
    return model;
}

Result<std::vector<Token>> DraftModel::draft(std::span<const Token> text, size_t most) {
    std::vector<Token> tokens;
    const auto is_common = [&](Token token) { return token < common_tokens_; };
    if (text.size() + most > session_->context_tokens() || !std::ranges::all_of(text, is_common)) return tokens;
    HYPURA_TRY(read(text));
    while (tokens.size() < most) {
        const TokenLogprob likeliest = top_logprobs(session_->logits(0), 1).front();
        if (likeliest.logprob < std::log(kLeastProbability) || !is_common(likeliest.token)) break;
        tokens.push_back(likeliest.token);
        if (tokens.size() < most) HYPURA_TRY(evaluate(std::span(tokens).last(1)));
    }
    return tokens;
}

// The last token is always evaluated: its logits are wanted.
size_t DraftModel::unread_tokens(std::span<const Token> text) const {
    const auto common = static_cast<size_t>(std::ranges::mismatch(timeline_, text).in1 - timeline_.begin());
    return text.size() - std::min(common, text.size() - 1);
}

Status DraftModel::read(std::span<const Token> text) {
    const size_t kept = text.size() - unread_tokens(text);
    if (kept < timeline_.size()) {
        const Status cut = session_->rewind(static_cast<uint32_t>(kept));
        timeline_.resize(cut ? kept : 0);  // one that cannot go back has forgotten everything
    }
    return evaluate(text.subspan(timeline_.size()));
}

Status DraftModel::evaluate(std::span<const Token> tokens) {
    HYPURA_TRY(session_->evaluate(tokens, LogitsWanted::kLast));
    timeline_.insert(timeline_.end(), tokens.begin(), tokens.end());
    return {};
}

}  // namespace hypura::engine
