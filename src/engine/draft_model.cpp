#include "engine/draft_model.h"

#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

namespace hypura::engine {
namespace {

constexpr float kLeastProbability = 0.4F;  // of a token that is worth checking

const std::vector<std::string>* vocabulary_of(const gguf::ModelFile& file) {
    const auto found = file.metadata.find("tokenizer.ggml.tokens");
    return found == file.metadata.end() ? nullptr : std::get_if<std::vector<std::string>>(&found->second);
}

// Models of one family pad their vocabularies to different sizes; what both have must be the same.
bool share_vocabulary(const gguf::ModelFile& a, const gguf::ModelFile& b) {
    const auto *tokens_a = vocabulary_of(a), *tokens_b = vocabulary_of(b);
    if (tokens_a == nullptr || tokens_b == nullptr) return false;
    const size_t common = std::min(tokens_a->size(), tokens_b->size());
    const size_t larger = std::max(tokens_a->size(), tokens_b->size());
    return larger - common <= larger / 100 &&
           std::equal(tokens_a->begin(), tokens_a->begin() + common, tokens_b->begin());
}

}  // namespace

Result<std::unique_ptr<DraftModel>> DraftModel::open(const std::string& path, const gguf::ModelFile& target,
                                                     uint32_t context_tokens, uint32_t threads) {
    HYPURA_ASSIGN(auto engine, Engine::open({.model_path = path,
                                             .mode = Mode::kResident,
                                             .context_tokens = context_tokens,
                                             .threads = threads,
                                             .devices = {"none"}}));
    if (!share_vocabulary(engine->file(), target))
        return fail(ErrorCode::kUnsupportedModel,
                    "{}: its tokens are not those of {}, so it cannot draft for it; name a smaller model of the same "
                    "family",
                    path, target.parts[0].path);
    std::unique_ptr<DraftModel> model(new DraftModel(std::move(engine)));
    HYPURA_ASSIGN(model->session_, model->engine_->new_session());
    return model;
}

Result<std::vector<Token>> DraftModel::draft(std::span<const Token> text, size_t most) {
    std::vector<Token> tokens;
    if (text.size() + most > session_->context_tokens()) return tokens;
    HYPURA_TRY(read(text));
    while (tokens.size() < most) {
        const TokenLogprob likeliest = top_logprobs(session_->logits(0), 1).front();
        if (likeliest.logprob < std::log(kLeastProbability)) break;
        tokens.push_back(likeliest.token);
        if (tokens.size() < most) HYPURA_TRY(evaluate(std::span(tokens).last(1)));
    }
    return tokens;
}

// The last token is always evaluated: its logits are wanted.
Status DraftModel::read(std::span<const Token> text) {
    const auto common = static_cast<size_t>(std::ranges::mismatch(timeline_, text).in1 - timeline_.begin());
    const size_t kept = std::min(common, text.size() - 1);
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
