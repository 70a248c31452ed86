// A chat over one session: every turn renders all messages anew and computes only what the session does not hold yet.
#pragma once

#include "engine/chat_template.h"
#include "engine/engine.h"
#include "engine/generate.h"

#include <optional>
#include <string>
#include <vector>

namespace hypura::cli {

// How many tokens of `timeline` the prompt `wanted` can keep; never all of `wanted`, since logits come from evaluating
// at least one token.
size_t reusable_tokens(std::span<const engine::Token> timeline, std::span<const engine::Token> wanted);

class Conversation {
public:
    // `raw`: no template; each question is appended to the text so far.
    Conversation(const engine::Engine& engine, engine::Session& session, bool raw)
        : engine_(engine), session_(session), raw_(raw) {}

    void set_system(std::string text) { system_ = std::move(text); }
    void clear() { messages_.clear(); }

    // The question and its answer become part of the chat; after an error neither does, nor when it was cancelled
    // before the answer began.
    Result<engine::GenerateResult> ask(std::string question, const engine::GenerateOptions& options,
                                       const engine::GenerateCallbacks& callbacks);
    // Answers the last question once more. kInvalidArgument when there is none.
    Result<engine::GenerateResult> ask_again(const engine::GenerateOptions& options,
                                             const engine::GenerateCallbacks& callbacks);

private:
    Result<engine::GenerateResult> answer(const engine::GenerateOptions& options,
                                          const engine::GenerateCallbacks& callbacks);
    Result<std::vector<engine::Token>> render() const;
    Result<std::vector<engine::Token>> render_raw() const;
    Status keep_on_timeline(size_t tokens);
    void record(std::span<const engine::Token> prompt, const engine::GenerateResult& result);
    void forget_timeline();

    const engine::Engine& engine_;
    engine::Session& session_;
    bool raw_;
    std::string system_;
    std::vector<engine::ChatMessage> messages_;
    std::vector<engine::Token> timeline_;  // what the session holds, token by token
};

}  // namespace hypura::cli
