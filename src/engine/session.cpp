// One timeline of tokens over libllama's KV cache.
#include "engine/pass.h"
#include "engine/runtime.h"

#include <algorithm>
#include <format>

namespace hypura::engine {
namespace {

class LlamaSession final : public Session {
public:
    explicit LlamaSession(Runtime& runtime) : runtime_(runtime) {
        runtime_.session_lives = true;
        clear();
    }
    ~LlamaSession() override {
        clear();
        runtime_.session_lives = false;
    }

    Status evaluate(std::span<const Token> tokens, LogitsWanted wanted,
                    const std::function<bool(size_t)>& progress) override;
    std::span<const float> logits(size_t index) const override {
        const std::span<const float> rows(rows_);
        return (index + 1) * row_floats_ <= rows.size() ? rows.subspan(index * row_floats_, row_floats_)
                                                        : rows.first(0);
    }
    uint32_t position() const override { return position_; }
    uint32_t context_tokens() const override { return llama_n_ctx(runtime_.context.get()); }
    Status rewind(uint32_t position) override;
    void clear() override;
    void cancel() override { runtime_.eval.abort = true; }

private:
    Status check_vocabulary(std::span<const Token> tokens) const;
    Status start_with_encoder(std::span<const Token> tokens);
    Status evaluate_pass(Pass pass, std::span<const Token> tokens, LogitsWanted wanted);
    void keep_rows(size_t first_row, size_t end_row);
    const float* row(size_t index) const;

    Runtime& runtime_;
    uint32_t position_ = 0;
    size_t row_floats_ = 0;
    std::vector<float> rows_;
};

Status LlamaSession::evaluate(std::span<const Token> tokens, LogitsWanted wanted,
                              const std::function<bool(size_t)>& progress) {
    runtime_.eval.abort = false;
    rows_.clear();
    const uint32_t begin = position_;
    if (position_ + tokens.size() > context_tokens())
        return fail(ErrorCode::kInvalidArgument,
                    "{} tokens do not fit the context of {} ({} are used); use a larger --ctx", tokens.size(),
                    context_tokens(), position_);
    HYPURA_TRY(check_vocabulary(tokens));
    if (llama_model_has_encoder(runtime_.model.get()) && begin == 0) {
        Status started = start_with_encoder(tokens);
        if (!started) clear();
        return started;
    }
    const uint32_t most_rows = wanted == LogitsWanted::kLast ? UINT32_MAX : runtime_.most_outputs;
    const bool apart = wanted == LogitsWanted::kOneByOne && !runtime_.report.can_draft;
    const size_t most = apart ? 1 : std::min(runtime_.report.batch_tokens, most_rows);
    for (size_t done = 0; done < tokens.size();) {
        const auto batch = tokens.subspan(done, std::min(most, tokens.size() - done));
        Status evaluated = evaluate_pass(Pass::kDecode, batch, wanted);
        done += batch.size();
        if (evaluated && progress && !progress(done)) evaluated = fail(ErrorCode::kCancelled, "cancelled");
        if (evaluated) continue;
        (void)rewind(begin);  // the timeline is as it was; a recurrent model's is empty
        return evaluated;
    }
    return {};
}

// libllama would only say that the batch is invalid.
Status LlamaSession::check_vocabulary(std::span<const Token> tokens) const {
    const auto vocabulary = static_cast<Token>(runtime_.logits_row);
    const auto unknown = std::ranges::find_if(tokens, [&](Token token) { return token < 0 || token >= vocabulary; });
    if (unknown == tokens.end() || vocabulary == 0) return {};
    return fail(ErrorCode::kInvalidArgument, "{}: there is no token {}; the vocabulary has {}, numbered from 0",
                runtime_.file.parts[0].path, *unknown, vocabulary);
}

// The whole prompt goes through the encoder at once; a decoder behind it begins with its start token.
Status LlamaSession::start_with_encoder(std::span<const Token> tokens) {
    if (tokens.size() > runtime_.report.batch_tokens)
        return fail(ErrorCode::kInvalidArgument,
                    "{} tokens in one go exceed --batch {}, and an encoder cannot take them in parts", tokens.size(),
                    runtime_.report.batch_tokens);
    HYPURA_TRY(evaluate_pass(Pass::kEncode, tokens, LogitsWanted::kAll));
    position_ = 0;
    if (!llama_model_has_decoder(runtime_.model.get())) return {};
    rows_.clear();
    const Token start = std::max(0, llama_model_decoder_start_token(runtime_.model.get()));
    return evaluate_pass(Pass::kDecode, std::span(&start, 1), LogitsWanted::kAll);
}

Status LlamaSession::evaluate_pass(Pass pass, std::span<const Token> tokens, LogitsWanted wanted) {
    const bool all_logits = wanted != LogitsWanted::kLast;
    const Rounding rounding = wanted == LogitsWanted::kOneByOne ? Rounding::kOneByOne : Rounding::kTogether;
    HYPURA_TRY(run_pass(runtime_, pass, pass_of(tokens, position_, all_logits), rounding));
    position_ += static_cast<uint32_t>(tokens.size());
    const bool decoder_follows = pass == Pass::kEncode && llama_model_has_decoder(runtime_.model.get());
    if (decoder_follows) return {};
    if (!all_logits) rows_.clear();  // only the last pass's counts
    keep_rows(all_logits ? 0 : tokens.size() - 1, tokens.size());
    return {};
}

const float* LlamaSession::row(size_t index) const {
    return llama_model_has_decoder(runtime_.model.get()) ? logits_row(runtime_, index) : embedding_row(runtime_, index);
}

void LlamaSession::keep_rows(size_t first_row, size_t end_row) {
    row_floats_ = llama_model_has_decoder(runtime_.model.get())
                      ? runtime_.logits_row
                      : static_cast<size_t>(llama_model_n_embd_out(runtime_.model.get()));
    for (size_t i = first_row; i < end_row; ++i)
        if (const float* values = row(i)) rows_.insert(rows_.end(), values, values + row_floats_);
}

Status LlamaSession::rewind(uint32_t position) {
    llama_memory_t memory = llama_get_memory(runtime_.context.get());
    if (memory == nullptr) {
        position_ = 0;
        return {};
    }
    const bool removed = llama_memory_seq_rm(memory, 0, static_cast<llama_pos>(position), -1);
    if (!removed) {
        clear();
        return position == 0 ? Status{}
                             : fail(ErrorCode::kUnsupportedModel, "this architecture cannot go back in its history");
    }
    position_ = position;
    return {};
}

void LlamaSession::clear() {
    if (llama_memory_t memory = llama_get_memory(runtime_.context.get())) llama_memory_clear(memory, true);
    position_ = 0;
}

}  // namespace

std::unique_ptr<Session> make_session(Runtime& runtime) { return std::make_unique<LlamaSession>(runtime); }

}  // namespace hypura::engine
