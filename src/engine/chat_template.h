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

// The same for callers that know more than roles and texts: tool calls, tools, switches of the template. With tools, by
// the template that the model has for them, if it has one. JSON as text, so that this header needs no JSON library.
struct TemplateInput {
    std::string messages;   // an array of objects with at least "role" and "content"; tool arguments are objects
    std::string tools;      // an array, or empty: none
    std::string variables;  // an object of further variables (enable_thinking, ...), or empty
    bool add_generation_prompt = true;
};

// Errors: as render_chat; kInvalidArgument for text that is no JSON.
Result<std::string> render_template(const Engine& engine, const TemplateInput& input);

}  // namespace hypura::engine
