#include "server/answer_builder.h"

#include "server/text_util.h"

#include <algorithm>

namespace hypura::server {
namespace {

constexpr int64_t kNsPerUs = 1000;

int64_t since_ns(std::chrono::steady_clock::time_point time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - time).count();
}

// A token may bring more than one of them.
std::string first_of(const std::vector<std::string>& stops, std::string_view text) {
    std::string found;
    size_t first = std::string_view::npos;
    for (const std::string& stop : stops) {
        const size_t at = stop.empty() ? std::string_view::npos : text.find(stop);
        if (at < first) found = stop;
        first = std::min(first, at);
    }
    return found;
}

bool failed(const engine::Finished& finished) { return finished.reason == engine::FinishReason::kFailed; }

}  // namespace

AnswerBuilder::AnswerBuilder(const engine::Engine& engine, AnswerOptions options)
    : engine_(engine),
      options_(std::move(options)),
      stops_(options_.stop),
      parser_(make_answer_parser(options_.parser)) {
    for (const std::string& marker : options_.parser.family.marker_tokens()) {
        const auto tokens = engine_.tokenize(marker, false, true);
        if (tokens && tokens->size() == 1) markers_.insert(tokens->front());
    }
}

std::string AnswerBuilder::piece(engine::Token token) const { return engine_.piece(token, markers_.contains(token)); }

TokenLogprob AnswerBuilder::logprob_of(engine::Token token, float logprob) const {
    return {engine_.piece(token, true), static_cast<double>(logprob), {}};
}

std::vector<Event> AnswerBuilder::take(const engine::PromptProgress& progress) {
    return {ProgressEvent{progress.done_tokens, progress.total_tokens}};
}

std::vector<Event> AnswerBuilder::take(const engine::Sampled& sampled) {
    if (stopped_) return {};  // came from the pass that was under way
    if (options_.return_context) options_.prompt.push_back(sampled.token);
    if (options_.logprobs) {
        logprobs_.push_back(logprob_of(sampled.token, sampled.logprob));
        for (const engine::TokenLogprob& other : sampled.top)
            logprobs_.back().top.push_back(logprob_of(other.token, other.logprob));
    }
    return take_text(characters_.push(piece(sampled.token)));
}

std::vector<Event> AnswerBuilder::take_text(const std::string& text) {
    std::vector<Event> events;
    seen_ += text;
    const auto [free, stopped] = stops_.push(text);
    add_parts(parser_->push(free), events);
    if (!stopped) return events;
    stopped_ = true;
    stop_string_ = first_of(options_.stop, seen_);
    return events;
}

void AnswerBuilder::add_parts(std::vector<AnswerPart> parts, std::vector<Event>& events) {
    for (AnswerPart& part : parts) add_part(std::move(part), events);
}

// The log-probabilities of tokens go with the text that they became.
void AnswerBuilder::add_part(AnswerPart part, std::vector<Event>& events) {
    if (auto* text = std::get_if<TextPart>(&part)) {
        events.emplace_back(TextEvent{std::move(text->text), std::exchange(logprobs_, {})});
    } else if (auto* thinking = std::get_if<ThinkingPart>(&part)) {
        auto logprobs = std::exchange(logprobs_, {});
        if (options_.think) events.emplace_back(ThinkingEvent{std::move(thinking->text), std::move(logprobs)});
    } else {
        if (stopped_ && !options_.parallel_tool_calls) return;
        auto& call = std::get<ToolCall>(part);
        if (call.id.empty()) call.id = random_id("call_", 8);
        events.emplace_back(ToolCallEvent{std::move(call), tool_calls_++});
        stopped_ = stopped_ || !options_.parallel_tool_calls;
    }
}

DoneEvent AnswerBuilder::done(const engine::Finished& finished) {
    DoneEvent event;
    const bool at_limit =
        finished.reason == engine::FinishReason::kMaxTokens || finished.reason == engine::FinishReason::kContextFull;
    if (!stop_string_.empty())
        event.finish = Finish::kStopString;
    else if (at_limit)
        event.finish = Finish::kLength;
    else if (tool_calls_ > 0)
        event.finish = Finish::kToolCalls;
    event.stop_string = stop_string_;
    event.usage = {finished.prompt_tokens, finished.reused_tokens, finished.generated_tokens};
    event.timing = {since_ns(options_.arrived), options_.load_ns, finished.prompt_us * kNsPerUs,
                    finished.decode_us * kNsPerUs};
    if (options_.return_context) event.context = std::move(options_.prompt);
    event.logprobs = std::exchange(logprobs_, {});
    return event;
}

std::vector<Event> AnswerBuilder::take(const engine::Finished& finished) {
    if (failed(finished)) return {FailedEvent{ApiError(finished.error)}};
    const bool gone = finished.reason == engine::FinishReason::kCancelled && !stopped_;
    if (gone) return {FailedEvent{ApiError(499, "request canceled")}};
    std::vector<Event> events;
    if (!stopped_) {
        events = take_text(characters_.flush());
        if (!stopped_) add_parts(parser_->push(stops_.flush()), events);
    }
    add_parts(parser_->finish(), events);
    events.emplace_back(done(finished));
    return events;
}

}  // namespace hypura::server
