#include "server/request.h"

#include "base/check.h"

namespace hypura::server {
namespace {

void append(std::vector<TokenLogprob>& to, const std::vector<TokenLogprob>& from) {
    to.insert(to.end(), from.begin(), from.end());
}

struct Adder {
    Answer& answer;

    void operator()(const ProgressEvent&) const {}
    void operator()(const TextEvent& event) const {
        answer.text += event.text;
        append(answer.logprobs, event.logprobs);
    }
    void operator()(const ThinkingEvent& event) const {
        answer.thinking += event.text;
        append(answer.logprobs, event.logprobs);
    }
    void operator()(const ToolCallEvent& event) const { answer.tool_calls.push_back(event.call); }
    void operator()(const DoneEvent& event) const {
        append(answer.logprobs, event.logprobs);
        answer.done = event;
    }
    void operator()(const FailedEvent&) const { HYPURA_CHECK(false); }
};

}  // namespace

void Answer::add(const Event& event) { std::visit(Adder{*this}, event); }

}  // namespace hypura::server
