// Messages -> prompt text, by the model's own Jinja template (minja).
#pragma once

#include "base/status.h"
#include "engine/engine.h"

#include <span>
#include <string>

namespace hypura::engine {

struct ChatMessage {
    std::string role;  // "system", "user", "assistant", "tool"
    std::string content;
};

// Renders all messages; with `add_generation_prompt` the result ends where the assistant's answer begins.
// A model without a template gets ChatML if its vocabulary knows <|im_start|>, else kUnsupportedModel with the advice
// to use --raw. A template that fails to parse or run is kUnsupportedModel with minja's message.
Result<std::string> render_chat(const Engine& engine, std::span<const ChatMessage> messages,
                                bool add_generation_prompt);

}  // namespace hypura::engine
