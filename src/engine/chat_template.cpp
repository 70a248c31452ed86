#include "engine/chat_template.h"

#include <minja/minja.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <optional>

namespace hypura::engine {
namespace {

using Json = nlohmann::ordered_json;
using Template = std::shared_ptr<minja::TemplateNode>;

constexpr std::string_view kChatMl =
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

// ---- the template's text -------------------------------------------------------------------------------------------

bool knows_chatml(const Engine& engine) {
    const auto tokens = engine.tokenize("<|im_start|>", false, true);
    return tokens && tokens->size() == 1;
}

Result<std::string> template_source(const Engine& engine) {
    if (auto source = engine.chat_template_source()) return *std::move(source);
    if (engine.has_vocabulary() && knows_chatml(engine)) return std::string(kChatMl);
    return fail(ErrorCode::kUnsupportedModel,
                "the model has no chat template; use --raw to continue the prompt as plain text");
}

std::string token_text(const Engine& engine, Token token) {
    return token < 0 ? std::string() : engine.piece(token, true);
}

// ---- minja: everything below may throw -----------------------------------------------------------------------------

// We parse and run the template ourselves and leave minja::chat_template alone: its constructor tries out tool calls
// and prints to stderr when a template, like every plain ChatML one, knows none.
Template parse_template(const std::string& source) {
    return minja::Parser::parse(source, {.trim_blocks = true, .lstrip_blocks = true, .keep_trailing_newline = false});
}

// Several templates (Llama 3.1 among them) state today's date.
minja::Value strftime_now() {
    return minja::Value::callable([](const std::shared_ptr<minja::Context>&, minja::ArgumentsValue& arguments) {
        arguments.expectArgs("strftime_now", {1, 1}, {0, 0});
        const auto format = arguments.args[0].get<std::string>();
        const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
        std::tm local{};
        ::localtime_r(&now, &local);
        std::array<char, 256> text{};
        const size_t length = std::strftime(text.data(), text.size(), format.c_str(), &local);
        return minja::Value(std::string(text.data(), length));
    });
}

Json to_json(std::span<const ChatMessage> messages) {
    Json list = Json::array();
    for (const ChatMessage& message : messages) list.push_back({{"role", message.role}, {"content", message.content}});
    return list;
}

std::string run_template(const Engine& engine, const Template& root, std::span<const ChatMessage> messages,
                         bool add_generation_prompt) {
    auto context = minja::Context::make(
        minja::Value(Json{{"messages", to_json(messages)}, {"add_generation_prompt", add_generation_prompt}}));
    context->set("bos_token", minja::Value(token_text(engine, engine.bos_token())));
    context->set("eos_token", minja::Value(token_text(engine, engine.eos_token())));
    context->set("strftime_now", strftime_now());
    return root->render(context);
}

// ---- templates without a system role -------------------------------------------------------------------------------

bool has_system(std::span<const ChatMessage> messages) {
    return !messages.empty() && messages.front().role == "system" && !messages.front().content.empty();
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view kSpace = " \t\r\n";
    const size_t begin = text.find_first_not_of(kSpace);
    return begin == std::string_view::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// Some templates (Gemma's) refuse a system message, others drop it silently: its text then leads the first question.
std::vector<ChatMessage> fold_system_into_user(std::span<const ChatMessage> messages) {
    std::vector<ChatMessage> folded(messages.begin() + 1, messages.end());
    const auto user = std::ranges::find(folded, "user", &ChatMessage::role);
    if (user == folded.end())
        folded.insert(folded.begin(), {"user", messages.front().content});
    else
        user->content = messages.front().content + "\n\n" + user->content;
    return folded;
}

// Empty when the template threw or left the system message out.
std::optional<std::string> try_with_system(const Engine& engine, const Template& root,
                                           std::span<const ChatMessage> messages, bool add_generation_prompt) {
    try {
        std::string text = run_template(engine, root, messages, add_generation_prompt);
        if (text.contains(trimmed(messages.front().content))) return text;
    } catch (const std::exception&) {
        // Not an error yet: the same messages without a system role may do.
    }
    return std::nullopt;
}

std::string render(const Engine& engine, const std::string& source, std::span<const ChatMessage> messages,
                   bool add_generation_prompt) {
    const Template root = parse_template(source);
    if (!has_system(messages)) return run_template(engine, root, messages, add_generation_prompt);
    if (auto text = try_with_system(engine, root, messages, add_generation_prompt)) return *std::move(text);
    return run_template(engine, root, fold_system_into_user(messages), add_generation_prompt);
}

}  // namespace

Result<std::string> render_chat(const Engine& engine, std::span<const ChatMessage> messages,
                                bool add_generation_prompt) {
    HYPURA_ASSIGN(const std::string source, template_source(engine));
    try {
        return render(engine, source, messages, add_generation_prompt);
    } catch (const std::exception& error) {
        return fail(ErrorCode::kUnsupportedModel, "the model's chat template failed: {}; use --raw to do without it",
                    error.what());
    }
}

}  // namespace hypura::engine
