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

Result<std::string> template_source(const Engine& engine, bool with_tools) {
    if (with_tools)
        if (auto source = engine.chat_template_source(Engine::ChatTemplate::kToolUse)) return *std::move(source);
    if (auto source = engine.chat_template_source(Engine::ChatTemplate::kDefault)) return *std::move(source);
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

// What a template is given, beside the texts of special tokens.
struct Variables {
    Json messages = Json::array();
    Json tools;  // null: none
    Json further = Json::object();
    bool add_generation_prompt = true;

    Variables with(Json other_messages) const {
        Variables copy = *this;
        copy.messages = std::move(other_messages);
        return copy;
    }
};

std::string run_template(const Engine& engine, const Template& root, const Variables& variables) {
    auto context = minja::Context::make(minja::Value(
        Json{{"messages", variables.messages}, {"add_generation_prompt", variables.add_generation_prompt}}));
    context->set("bos_token", minja::Value(token_text(engine, engine.bos_token())));
    context->set("eos_token", minja::Value(token_text(engine, engine.eos_token())));
    context->set("strftime_now", strftime_now());
    if (!variables.tools.is_null()) context->set("tools", minja::Value(variables.tools));
    for (const auto& [name, value] : variables.further.items()) context->set(name, minja::Value(value));
    return root->render(context);
}

// ---- templates without a system role -------------------------------------------------------------------------------

std::string text_of(const Json& message, const char* key) {
    const auto entry = message.find(key);
    return entry != message.end() && entry->is_string() ? entry->get<std::string>() : std::string();
}

bool has_system(const Json& messages) {
    return !messages.empty() && text_of(messages.front(), "role") == "system" &&
           !text_of(messages.front(), "content").empty();
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view kSpace = " \t\r\n";
    const size_t begin = text.find_first_not_of(kSpace);
    return begin == std::string_view::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// Some templates (Gemma's) refuse a system message, others drop it silently: its text then leads the first question.
Json fold_system_into_user(const Json& messages) {
    Json folded = Json::array();
    folded.insert(folded.end(), messages.begin() + 1, messages.end());
    const std::string system = text_of(messages.front(), "content");
    const auto user =
        std::ranges::find_if(folded, [](const Json& message) { return text_of(message, "role") == "user"; });
    if (user == folded.end())
        folded.insert(folded.begin(), Json{{"role", "user"}, {"content", system}});
    else
        (*user)["content"] = system + "\n\n" + text_of(*user, "content");
    return folded;
}

// Empty when the template threw or left the system message out.
std::optional<std::string> try_with_system(const Engine& engine, const Template& root, const Variables& variables) {
    try {
        std::string text = run_template(engine, root, variables);
        if (!text.contains(trimmed(text_of(variables.messages.front(), "content")))) return std::nullopt;
        return text;
    } catch (const std::exception&) {
        return std::nullopt;  // not an error yet: the same messages without a system role may do
    }
}

std::string render(const Engine& engine, const std::string& source, const Variables& variables) {
    const Template root = parse_template(source);
    if (!has_system(variables.messages)) return run_template(engine, root, variables);
    if (auto text = try_with_system(engine, root, variables)) return *std::move(text);
    return run_template(engine, root, variables.with(fold_system_into_user(variables.messages)));
}

Result<std::string> render_variables(const Engine& engine, const Variables& variables) {
    HYPURA_ASSIGN(const std::string source, template_source(engine, !variables.tools.is_null()));
    try {
        return render(engine, source, variables);
    } catch (const std::exception& error) {
        return fail(ErrorCode::kUnsupportedModel, "the model's chat template failed: {}; use --raw to do without it",
                    error.what());
    }
}

Result<Json> parse_json(const std::string& text, Json otherwise) {
    if (text.empty()) return otherwise;
    Json json = Json::parse(text, nullptr, false);
    if (json.is_discarded()) return fail(ErrorCode::kInvalidArgument, "the input of the chat template is not JSON");
    return json;
}

}  // namespace

Result<std::string> render_chat(const Engine& engine, std::span<const ChatMessage> messages,
                                bool add_generation_prompt) {
    return render_variables(engine, {to_json(messages), nullptr, Json::object(), add_generation_prompt});
}

Result<std::string> render_template(const Engine& engine, const TemplateInput& input) {
    Variables variables{.add_generation_prompt = input.add_generation_prompt};
    HYPURA_ASSIGN(variables.messages, parse_json(input.messages, Json::array()));
    HYPURA_ASSIGN(variables.tools, parse_json(input.tools, nullptr));
    HYPURA_ASSIGN(variables.further, parse_json(input.variables, Json::object()));
    return render_variables(engine, variables);
}

}  // namespace hypura::engine
