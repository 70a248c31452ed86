// Anthropic's requests.
#include "server/anthropic.h"
#include "server/request_json.h"
#include "server/text_util.h"

namespace hypura::server::anthropic {
namespace {

std::string text_field(const Json& json, std::string_view key) {
    const Json* value = find(json, key);
    if (value == nullptr) return {};
    return value->is_string() ? value->get<std::string>() : dump(*value);
}

// One message may hold text, calls and results; results are messages of their own here, in front of what follows them.
class MessageReader {
public:
    MessageReader(ChatPrompt& chat, std::string role, std::string_view model)
        : chat_(chat), model_(model), message_{.role = std::move(role)} {}

    ApiStatus read(const Json* content) {
        if (content == nullptr) return refuse(400, "messages: content is required");
        if (content->is_string()) {
            message_.text = content->get<std::string>();
        } else if (content->is_array()) {
            for (const Json& block : *content) HYPURA_TRY(add(block));
        } else {
            return refuse(400, "messages: content must be a string or an array of blocks");
        }
        const bool nothing = message_.text.empty() && message_.tool_calls.empty() && message_.thinking.empty();
        if (!nothing || !had_result_) chat_.messages.push_back(std::move(message_));
        return {};
    }

private:
    ApiStatus add(const Json& block) {
        const std::string type = text_field(block, "type");
        if (type == "text") {
            message_.text += text_field(block, "text");
        } else if (type == "thinking") {
            message_.thinking += text_field(block, "thinking");
        } else if (type == "tool_use") {
            const Json* input = find(block, "input");
            message_.tool_calls.push_back(
                {text_field(block, "id"), text_field(block, "name"), input == nullptr ? "{}" : dump(*input)});
        } else if (type == "tool_result") {
            return add_result(block);
        } else if (type == "image") {
            return std::unexpected(does_not_support(model_, "images"));
        }
        return {};  // cache markers, documents and whatever comes next: not ours to refuse
    }
    ApiStatus add_result(const Json& block) {
        Message result{.role = "tool", .tool_call_id = text_field(block, "tool_use_id")};
        HYPURA_ASSIGN(result.text, read_content(block, model_));
        chat_.messages.push_back(std::move(result));
        had_result_ = true;
        return {};
    }

    ChatPrompt& chat_;
    std::string_view model_;
    Message message_;
    bool had_result_ = false;
};

ApiStatus read_system(const Json& body, ChatPrompt& chat, std::string_view model) {
    const Json* system = find(body, "system");
    if (system == nullptr) return {};
    HYPURA_ASSIGN(std::string text, read_content({{"content", *system}}, model));
    if (!text.empty()) chat.messages.push_back({.role = "system", .text = std::move(text)});
    return {};
}

ApiStatus read_messages(const Json& body, ChatPrompt& chat, std::string_view model) {
    const Json* list = find(body, "messages");
    if (list == nullptr || !list->is_array() || list->empty())
        return refuse(400, "messages: at least one message is required");
    for (const Json& entry : *list) {
        const std::string role = text_field(entry, "role");
        if (role.empty()) return refuse(400, "messages: role is required");
        HYPURA_TRY(MessageReader(chat, role, model).read(find(entry, "content")));
    }
    return {};
}

ApiStatus read_tools(const Json& body, ChatPrompt& chat) {
    const Json* list = find(body, "tools");
    if (list == nullptr) return {};
    if (!list->is_array()) return refuse(400, "tools must be an array");
    for (const Json& tool : *list) {
        const Json* schema = find(tool, "input_schema");
        if (schema == nullptr) continue;  // tools that only their maker runs have none
        const Json* description = find(tool, "description");
        chat.tools.push_back(
            make_tool(text_field(tool, "name"), description == nullptr ? Json("") : *description, *schema));
    }
    return {};
}

// {"type": "auto", "disable_parallel_tool_use": true}
ApiStatus read_choice(const Json& body, ChatPrompt& chat) {
    HYPURA_TRY(read_tool_choice(body, chat));
    const Json* choice = find(body, "tool_choice");
    if (choice == nullptr) return {};
    HYPURA_ASSIGN(const auto one, read_bool(*choice, "disable_parallel_tool_use"));
    chat.parallel_tool_calls = !one.value_or(false);
    return {};
}

ApiStatus read_thinking(const Json& body, Request& request) {
    if (const Json* output = find(body, "output_config")) set_effort(request, text_field(*output, "effort"));
    // Effort is about more than thinking: it does not switch on what is switched off.
    if (const Json* thinking = find(body, "thinking")) request.think = text_field(*thinking, "type") != "disabled";
    return {};
}

ApiResult<Format> read_format(const Json& body) {
    const Json* output = find(body, "output_config");
    const Json* format = output == nullptr ? find(body, "output_format") : find(*output, "format");
    Json wrapped = {{"response_format", format == nullptr ? Json() : *format}};
    if (const Json* grammar = find(body, "grammar")) wrapped["grammar"] = *grammar;
    return read_response_format(wrapped);
}

}  // namespace

ApiResult<Request> parse_count_tokens(const Json& body) {
    Request request;
    HYPURA_ASSIGN(request.model, require_model(body));
    ChatPrompt chat;
    HYPURA_TRY(read_system(body, chat, request.model));
    HYPURA_TRY(read_messages(body, chat, request.model));
    HYPURA_TRY(read_tools(body, chat));
    HYPURA_TRY(read_choice(body, chat));
    HYPURA_TRY(read_thinking(body, request));
    request.prompt = std::move(chat);
    return request;
}

ApiResult<Request> parse_messages(const Json& body) {
    HYPURA_ASSIGN(Request request, parse_count_tokens(body));
    HYPURA_ASSIGN(request.max_tokens, read_integer(body, "max_tokens"));
    if (request.max_tokens.value_or(0) <= 0) return refuse(400, "max_tokens is required and must be positive");
    HYPURA_ASSIGN(request.sampling, read_sampling(body));
    HYPURA_ASSIGN(request.stop, read_strings(body, "stop_sequences"));
    HYPURA_ASSIGN(request.format, read_format(body));
    HYPURA_ASSIGN(const auto stream, read_bool(body, "stream"));
    request.stream = stream.value_or(false);
    request.truncate = false;
    HYPURA_ASSIGN(request.keep_alive, parse_keep_alive(find(body, "keep_alive")));
    return request;
}

}  // namespace hypura::server::anthropic
