#include "engine/generate.h"

#include "base/clock.h"
#include "engine/drafting.h"
#include "engine/text_stream.h"

#include <algorithm>
#include <utility>

namespace hypura::engine {
namespace {

bool was_cancelled(const Status& status) { return !status && status.error().code == ErrorCode::kCancelled; }

// One answer: reads the prompt, then one token a turn, and what was drafted rightly behind it, until something ends it.
class Answer {
public:
    Answer(const Engine& engine, Session& session, Sampler sampler, const GenerateOptions& options,
           const GenerateCallbacks& callbacks)
        : engine_(engine),
          session_(session),
          drafting_(engine.drafting()),
          most_pass_tokens_(engine.report().batch_tokens),
          sampler_(std::move(sampler)),
          options_(options),
          callbacks_(callbacks),
          stops_(options.stop),
          text_(options.timeline) {}

    Result<GenerateResult> run(std::span<const Token> prompt);

private:
    Status read_prompt(std::span<const Token> prompt);
    Status decode();
    Status take_tokens();
    Status forget_wrong_draft(size_t accepted);
    void take_token(Token token);
    void check_limits(size_t drafted);
    Status evaluate_next();
    Result<Draft> draft();
    size_t room() const;
    void show(std::string_view text);
    void finish_text();
    void end(StopReason reason) { ended_ = true, result_.stop = reason; }

    const Engine& engine_;
    Session& session_;
    Drafting* const drafting_;  // null: nothing is drafted
    const size_t most_pass_tokens_;
    Sampler sampler_;
    const GenerateOptions& options_;
    const GenerateCallbacks& callbacks_;
    Utf8Cutter characters_;
    StopMatcher stops_;
    std::vector<Token> text_;  // timeline, prompt and answer
    Draft draft_;              // evaluated behind the text; row i + 1 of the logits follows its token i
    GenerateResult result_;
    int64_t begin_us_ = now_us();
    int64_t first_token_us_ = 0;  // of the clock
    bool ended_ = false;
};

Result<GenerateResult> Answer::run(std::span<const Token> prompt) {
    HYPURA_TRY(read_prompt(prompt));
    HYPURA_TRY(decode());
    finish_text();
    return std::move(result_);
}

// Cancelling is an outcome that the caller asked for, not an error: what was generated so far is returned.
Status Answer::read_prompt(std::span<const Token> prompt) {
    for (const Token token : prompt) sampler_.accept(token);
    text_.insert(text_.end(), prompt.begin(), prompt.end());
    const auto progress = [&](size_t done) {
        return !callbacks_.on_prompt || callbacks_.on_prompt(done, prompt.size());
    };
    const Status status = session_.evaluate(prompt, LogitsWanted::kLast, progress);
    result_.prompt_tokens = prompt.size();
    result_.prompt_us = now_us() - begin_us_;
    if (!was_cancelled(status)) return status;
    end(StopReason::kCancelled);
    return {};
}

Status Answer::decode() {
    while (!ended_) {
        HYPURA_TRY(take_tokens());
        if (!ended_) HYPURA_TRY(evaluate_next());
    }
    return {};
}

// Draws a token from each row, as long as it is the one that the next row follows.
Status Answer::take_tokens() {
    size_t accepted = 0;
    for (;; ++accepted) {
        HYPURA_ASSIGN(const Token token, sampler_.sample(session_.logits(accepted)));
        take_token(token);
        check_limits(draft_.tokens.size() - accepted);
        if (ended_ || accepted == draft_.tokens.size() || token != draft_.tokens[accepted]) break;
    }
    return forget_wrong_draft(accepted);
}

Status Answer::forget_wrong_draft(size_t accepted) {
    const size_t wrong = draft_.tokens.size() - accepted;
    if (drafting_ != nullptr) drafting_->note_draft(draft_, accepted);
    draft_.tokens.clear();
    return wrong == 0 ? Status{} : session_.rewind(session_.position() - static_cast<uint32_t>(wrong));
}

// The ending token is neither text nor part of the answer.
void Answer::take_token(Token token) {
    if (engine_.ends_generation(token)) return end(StopReason::kEndOfText);
    const int64_t now = now_us();
    if (result_.tokens.empty()) {
        first_token_us_ = now;
        result_.first_token_us = now - begin_us_;
    }
    result_.decode_us = now - first_token_us_;
    result_.tokens.push_back(token);
    text_.push_back(token);
    show(characters_.push(engine_.piece(token, false)));
}

// `drafted`: tokens on the session's timeline that no answer has come to yet.
void Answer::check_limits(size_t drafted) {
    if (ended_) return;
    if (options_.max_tokens > 0 && result_.tokens.size() >= options_.max_tokens) return end(StopReason::kMaxTokens);
    if (session_.position() - drafted >= session_.context_tokens()) end(StopReason::kContextFull);
}

Status Answer::evaluate_next() {
    HYPURA_ASSIGN(draft_, draft());
    std::vector<Token> tokens{text_.back()};
    tokens.append_range(draft_.tokens);
    const int64_t begin_us = now_us();
    const Status status = session_.evaluate(tokens, LogitsWanted::kOneByOne);
    if (drafting_ != nullptr && status) drafting_->note_pass(tokens.size(), now_us() - begin_us);
    if (!was_cancelled(status)) return status;
    end(StopReason::kCancelled);
    return {};
}

Result<Draft> Answer::draft() {
    if (drafting_ == nullptr) return Draft{};
    return drafting_->draft(text_, 1, std::min(room(), most_pass_tokens_ - 1));
}

// Tokens that may come behind the next one.
size_t Answer::room() const {
    const size_t context = session_.context_tokens() - session_.position() - 1;
    return options_.max_tokens > 0 ? std::min(context, options_.max_tokens - result_.tokens.size() - 1) : context;
}

void Answer::show(std::string_view text) {
    const auto [free, stopped] = stops_.push(text);
    result_.text += free;
    const bool go_on = free.empty() || !callbacks_.on_text || callbacks_.on_text(free);
    if (stopped)
        end(StopReason::kStopString);
    else if (!go_on)
        end(StopReason::kCancelled);
}

// Text held back for a character or a stop string that never came is part of the answer, unless it was stopped there.
void Answer::finish_text() {
    if (result_.stop == StopReason::kStopString) return;
    const StopReason reason = result_.stop;
    show(characters_.flush());
    if (result_.stop == StopReason::kStopString) return;
    const std::string rest = stops_.flush();
    result_.text += rest;
    if (!rest.empty() && callbacks_.on_text) callbacks_.on_text(rest);
    result_.stop = reason;
}

Status check_room(const Session& session, std::span<const Token> prompt) {
    if (prompt.empty()) return fail(ErrorCode::kInvalidArgument, "the prompt is empty");
    const size_t wanted = session.position() + prompt.size();
    if (wanted > session.context_tokens())
        return fail(ErrorCode::kInvalidArgument, "the prompt needs {} tokens of context, but there are only {}", wanted,
                    session.context_tokens());
    return {};
}

}  // namespace

std::string_view to_string(StopReason reason) {
    switch (reason) {
        case StopReason::kEndOfText:
            return "end_of_text";
        case StopReason::kMaxTokens:
            return "max_tokens";
        case StopReason::kContextFull:
            return "context_full";
        case StopReason::kStopString:
            return "stop_string";
        case StopReason::kCancelled:
            return "cancelled";
    }
    return "unknown";
}

Result<GenerateResult> generate(const Engine& engine, Session& session, std::span<const Token> prompt,
                                const GenerateOptions& options, const GenerateCallbacks& callbacks) {
    HYPURA_TRY(check_room(session, prompt));
    HYPURA_ASSIGN(Sampler sampler, Sampler::create(engine, options.sampling));
    return Answer(engine, session, std::move(sampler), options, callbacks).run(prompt);
}

}  // namespace hypura::engine
