#include "engine/pass.h"

#include "engine/llama_library.h"

#include <exception>
#include <utility>

namespace hypura::engine {
namespace {

class Batch {
public:
    explicit Batch(std::span<const PassToken> tokens)
        : batch_(llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1)) {
        for (const PassToken& token : tokens) add(token);
    }
    ~Batch() { llama_batch_free(batch_); }
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;

    const llama_batch& get() const { return batch_; }

private:
    void add(const PassToken& token) {
        const auto i = batch_.n_tokens++;
        batch_.token[i] = token.token;
        batch_.pos[i] = static_cast<llama_pos>(token.position);
        batch_.n_seq_id[i] = 1;
        batch_.seq_id[i][0] = token.sequence;
        batch_.logits[i] = static_cast<int8_t>(token.output);
    }

    llama_batch batch_;
};

Status error_of(const Runtime& runtime, int result) {
    if (result == 0) return {};
    if (result == 2) return fail(ErrorCode::kCancelled, "cancelled");
    if (result == 1)
        return fail(ErrorCode::kInvalidArgument, "the context of {} tokens is full",
                    llama_n_ctx(runtime.context.get()));
    return fail(ErrorCode::kInternal, "libllama failed with {}: {}", result, take_llama_complaints());
}

// libllama reports errors by value, and still throws where its own code does not expect to (memory, graph limits).
Status run_guarded(Runtime& runtime, Pass pass, std::span<const PassToken> tokens) {
    try {
        return error_of(runtime, run_batch(runtime, pass, tokens));
    } catch (const std::exception& error) {
        return fail(ErrorCode::kInternal, "libllama failed: {}", error.what());
    }
}

// The rows of a pass are attended to one by one while this lives.
class OneByOne {
public:
    explicit OneByOne(Runtime& runtime) : runtime_(runtime) {
        runtime_.attention_rows->begin_pass(*runtime_.streamer);
        runtime_.eval.observer = runtime_.attention_rows.get();
    }
    Status end() { return runtime_.attention_rows->end_pass(); }
    ~OneByOne() { runtime_.eval.observer = runtime_.streamer.get(); }
    OneByOne(const OneByOne&) = delete;
    OneByOne& operator=(const OneByOne&) = delete;

private:
    Runtime& runtime_;
};

Status run_one_by_one(Runtime& runtime, Pass pass, std::span<const PassToken> tokens) {
    OneByOne rows(runtime);
    Status ran = run_guarded(runtime, pass, tokens);
    HYPURA_TRY(rows.end());
    return ran;
}

// What was read from a file that somebody wrote to meanwhile is not this model: nobody may see what was computed with
// it. Weights that are all in memory do not care.
Status check_files(const Runtime& runtime) {
    return runtime.report.mode == Mode::kResident ? Status{} : gguf::check_unchanged(runtime.file);
}

}  // namespace

std::vector<PassToken> pass_of(std::span<const Token> tokens, uint32_t position, bool all_outputs) {
    std::vector<PassToken> pass;
    for (const Token token : tokens) pass.push_back({token, position++, 0, all_outputs});
    if (!pass.empty()) pass.back().output = true;
    return pass;
}

int run_batch(Runtime& runtime, Pass pass, std::span<const PassToken> tokens) {
    const Batch batch(tokens);
    llama_context* const context = runtime.context.get();
    return pass == Pass::kDecode ? llama_decode(context, batch.get()) : llama_encode(context, batch.get());
}

Status run_pass(Runtime& runtime, Pass pass, std::span<const PassToken> tokens, Rounding rounding) {
    WeightStreamer* const streamer = runtime.streamer.get();
    if (streamer != nullptr) streamer->begin_pass(static_cast<uint32_t>(tokens.size()));
    const bool one_by_one = rounding == Rounding::kOneByOne && tokens.size() > 1 && runtime.attention_rows != nullptr;
    Status ran = one_by_one ? run_one_by_one(runtime, pass, tokens) : run_guarded(runtime, pass, tokens);
    if (streamer != nullptr) HYPURA_TRY(streamer->end_pass());
    HYPURA_TRY(ran);
    return check_files(runtime);
}

const float* logits_row(const Runtime& runtime, size_t index) {
    return llama_get_logits_ith(runtime.context.get(), static_cast<int32_t>(index));
}

const float* embedding_row(const Runtime& runtime, size_t index) {
    return llama_get_embeddings_ith(runtime.context.get(), static_cast<int32_t>(index));
}

}  // namespace hypura::engine
