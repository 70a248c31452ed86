// From a sequence's events to a request's: tokens become characters, stop strings end the answer, thinking and tool
// calls are told apart, counts and times are added up.
//
// Thread contract: one thread at a time (the model thread); the vocabulary functions of Engine are thread-safe.
#pragma once

#include "engine/batch_engine.h"
#include "engine/text_stream.h"
#include "server/answer_parser.h"
#include "server/request.h"

#include <memory>
#include <set>
#include <span>
#include <vector>

namespace hypura::server {

struct AnswerOptions {
    AnswerParserOptions parser;
    std::vector<std::string> stop;
    bool parallel_tool_calls = true;
    bool think = true;  // false: thinking that comes all the same is dropped
    bool logprobs = false;
    bool return_context = false;
    std::vector<engine::Token> prompt;  // for return_context
    std::chrono::steady_clock::time_point arrived;
    int64_t load_ns = 0;
};

class AnswerBuilder {
public:
    AnswerBuilder(const engine::Engine& engine, AnswerOptions options);

    std::vector<Event> take(const engine::PromptProgress& progress);
    std::vector<Event> take(const engine::Sampled& sampled);
    std::vector<Event> take(const engine::Finished& finished);

    // A stop string was found, or a second call where only one is allowed: nothing more is wanted of the sequence.
    bool wants_no_more() const { return stopped_; }

private:
    std::string piece(engine::Token token) const;
    std::vector<Event> take_text(const std::string& text);
    void add_parts(std::vector<AnswerPart> parts, std::vector<Event>& events);
    void add_part(AnswerPart part, std::vector<Event>& events);
    DoneEvent done(const engine::Finished& finished);
    TokenLogprob logprob_of(engine::Token token, float logprob) const;

    const engine::Engine& engine_;
    AnswerOptions options_;
    std::set<engine::Token> markers_;  // control tokens that the parser must see
    engine::Utf8Cutter characters_;
    engine::StopMatcher stops_;
    std::unique_ptr<AnswerParser> parser_;
    std::vector<TokenLogprob> logprobs_;  // of tokens whose text has not come out yet
    std::string seen_;                    // the text so far: which stop string it was
    std::string stop_string_;
    uint32_t tool_calls_ = 0;
    bool stopped_ = false;
};

}  // namespace hypura::server
