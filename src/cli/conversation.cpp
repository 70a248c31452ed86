#include "cli/conversation.h"

#include <algorithm>

namespace hypura::cli {

using engine::GenerateCallbacks;
using engine::GenerateOptions;
using engine::GenerateResult;
using engine::Token;

namespace {

// False for an error, and for an answer that was cancelled while the question was being read.
bool has_answer(const Result<GenerateResult>& result) {
    return result && !(result->stop == engine::StopReason::kCancelled && result->tokens.empty());
}

}  // namespace

size_t reusable_tokens(std::span<const Token> timeline, std::span<const Token> wanted) {
    const auto [end, unused] = std::ranges::mismatch(timeline, wanted);
    const auto common = static_cast<size_t>(end - timeline.begin());
    return wanted.empty() ? 0 : std::min(common, wanted.size() - 1);
}

Result<GenerateResult> Conversation::ask(std::string question, const GenerateOptions& options,
                                         const GenerateCallbacks& callbacks) {
    messages_.push_back({"user", std::move(question)});
    Result<GenerateResult> result = answer(options, callbacks);
    if (!has_answer(result)) messages_.pop_back();
    return result;
}

Result<GenerateResult> Conversation::ask_again(const GenerateOptions& options, const GenerateCallbacks& callbacks) {
    if (messages_.size() < 2) return fail(ErrorCode::kInvalidArgument, "there is no answer to repeat yet");
    engine::ChatMessage previous = std::move(messages_.back());
    messages_.pop_back();
    Result<GenerateResult> result = answer(options, callbacks);
    if (!has_answer(result)) messages_.push_back(std::move(previous));
    return result;
}

Result<GenerateResult> Conversation::answer(const GenerateOptions& options, const GenerateCallbacks& callbacks) {
    HYPURA_ASSIGN(const std::vector<Token> prompt, render());
    HYPURA_TRY(keep_on_timeline(reusable_tokens(timeline_, prompt)));
    const std::span<const Token> missing = std::span(prompt).subspan(timeline_.size());
    GenerateOptions behind = options;
    behind.timeline = timeline_;
    Result<GenerateResult> result = engine::generate(engine_, session_, missing, behind, callbacks);
    if (!result) {
        forget_timeline();
        return result;
    }
    record(prompt, *result);
    if (has_answer(result)) messages_.push_back({"assistant", result->text});
    return result;
}

Result<std::vector<Token>> Conversation::render() const {
    if (raw_) return render_raw();
    std::vector<engine::ChatMessage> messages;
    if (!system_.empty()) messages.push_back({"system", system_});
    messages.append_range(messages_);
    HYPURA_ASSIGN(const std::string text, engine::render_chat(engine_, messages, true));
    // Many templates write the BOS token themselves; a second one would spoil the answer.
    const std::string bos = engine_.bos_token() < 0 ? "" : engine_.piece(engine_.bos_token(), true);
    const bool begins_with_bos = !bos.empty() && text.starts_with(bos);
    return engine_.tokenize(text, !begins_with_bos, true);
}

Result<std::vector<Token>> Conversation::render_raw() const {
    std::string text = system_;
    for (const engine::ChatMessage& message : messages_) text += message.content;
    return engine_.tokenize(text, true, true);
}

// An architecture that cannot rewind starts over: slower, never wrong.
Status Conversation::keep_on_timeline(size_t tokens) {
    if (tokens == timeline_.size()) return {};
    const Status status = session_.rewind(static_cast<uint32_t>(tokens));
    const bool cannot_rewind = !status && status.error().code == ErrorCode::kUnsupportedModel;
    if (cannot_rewind) tokens = 0;
    if (!status && !cannot_rewind) return status;
    timeline_.resize(tokens);
    return {};
}

// The session says how far it got: the last token of an answer is not always evaluated, and a cancelled prompt ends
// anywhere.
void Conversation::record(std::span<const Token> prompt, const GenerateResult& result) {
    timeline_.assign(prompt.begin(), prompt.end());
    timeline_.append_range(result.tokens);
    timeline_.resize(std::min<size_t>(timeline_.size(), session_.position()));
}

void Conversation::forget_timeline() {
    session_.clear();
    timeline_.clear();
}

}  // namespace hypura::cli
