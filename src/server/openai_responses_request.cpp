// Requests of the Responses API.
#include "server/openai_responses.h"
#include "server/request_json.h"
#include "server/text_util.h"

#include <algorithm>

namespace hypura::server::openai {
namespace {

std::string text_field(const Json& json, std::string_view key) {
    const Json* value = find(json, key);
    if (value == nullptr) return {};
    return value->is_string() ? value->get<std::string>() : dump(*value);
}

// What a tool returned: text, or an array of parts.
ApiResult<std::string> output_text(const Json& item, std::string_view model) {
    const Json* output = find(item, "output");
    if (output == nullptr) return std::string();
    return read_content({{"content", *output}}, model);
}

std::string reasoning_text(const Json& item) {
    std::string text;
    for (const char* key : {"summary", "content"})
        if (const Json* parts = find(item, key); parts != nullptr && parts->is_array())
            for (const Json& part : *parts) text += text_field(part, "text");
    return text;
}

// Items become messages; a function call and the reasoning before it join the assistant's message in front of them.
class ItemReader {
public:
    ItemReader(ChatPrompt& chat, std::string_view model) : chat_(chat), model_(model) {}

    ApiStatus add(const Json& item) {
        const std::string type = text_field(item, "type");
        if (type.empty() || type == "message") return add_message(item);
        if (type == "function_call") return add_call(item);
        if (type == "function_call_output") return add_output(item);
        if (type == "reasoning") thinking_ += reasoning_text(item);
        return {};  // items of tools that only their maker runs
    }

private:
    ApiStatus add_message(const Json& item) {
        Message message;
        message.role = text_field(item, "role");
        if (message.role == "developer") message.role = "system";
        if (message.role.empty()) message.role = "user";
        HYPURA_ASSIGN(message.text, read_content(item, model_));
        if (message.role == "assistant") message.thinking = std::exchange(thinking_, {});
        chat_.messages.push_back(std::move(message));
        return {};
    }
    ApiStatus add_call(const Json& item) {
        if (chat_.messages.empty() || chat_.messages.back().role != "assistant")
            chat_.messages.push_back({.role = "assistant", .thinking = std::exchange(thinking_, {})});
        const std::string arguments = text_field(item, "arguments");
        chat_.messages.back().tool_calls.push_back(
            {text_field(item, "call_id"), text_field(item, "name"), arguments.empty() ? "{}" : arguments});
        return {};
    }
    ApiStatus add_output(const Json& item) {
        Message message{.role = "tool", .tool_call_id = text_field(item, "call_id")};
        HYPURA_ASSIGN(message.text, output_text(item, model_));
        chat_.messages.push_back(std::move(message));
        return {};
    }

    ChatPrompt& chat_;
    std::string_view model_;
    std::string thinking_;
};

ApiStatus read_input(const Json& body, ChatPrompt& chat, std::string_view model) {
    const Json* input = find(body, "input");
    if (input == nullptr) return refuse(400, "input is required");
    if (input->is_string()) {
        chat.messages.push_back({.role = "user", .text = input->get<std::string>()});
        return {};
    }
    if (!input->is_array()) return refuse(400, "input must be a string or an array of items");
    ItemReader reader(chat, model);
    for (const Json& item : *input) HYPURA_TRY(reader.add(item));
    return {};
}

// Flat here: {"type":"function","name","description","parameters"}.
ApiStatus read_flat_tools(const Json& body, ChatPrompt& chat) {
    const Json* list = find(body, "tools");
    if (list == nullptr) return {};
    if (!list->is_array()) return refuse(400, "tools must be an array");
    for (const Json& tool : *list) {
        if (text_field(tool, "type") != "function") continue;  // web search and the like run elsewhere
        const Json* parameters = find(tool, "parameters");
        chat.tools.push_back(make_tool(text_field(tool, "name"), text_field(tool, "description"),
                                       parameters == nullptr ? Json::object() : *parameters));
    }
    return {};
}

// text.format is response_format without its wrapper.
ApiResult<Format> read_text_format(const Json& body) {
    const Json* text = find(body, "text");
    const Json* format = text == nullptr ? nullptr : find(*text, "format");
    Json wrapped = {{"response_format", format == nullptr ? Json() : *format}};
    if (const Json* grammar = find(body, "grammar")) wrapped["grammar"] = *grammar;
    return read_response_format(wrapped);
}

// Here they are one of the further things that an answer may include.
ApiStatus read_logprobs(const Json& body, Request& request) {
    const Json* include = find(body, "include");
    HYPURA_ASSIGN(const auto top, read_integer(body, "top_logprobs"));
    if (top.value_or(0) < 0 || top.value_or(0) > 20) return refuse(400, "top_logprobs must be between 0 and 20");
    request.top_logprobs = static_cast<uint32_t>(top.value_or(0));
    request.logprobs = include != nullptr && include->is_array() && std::ranges::any_of(*include, [](const Json& what) {
                           return what == "message.output_text.logprobs";
                       });
    return {};
}

ApiResult<ChatPrompt> read_chat(const Json& body, std::string_view model) {
    ChatPrompt chat;
    if (const std::string instructions = text_field(body, "instructions"); !instructions.empty())
        chat.messages.push_back({.role = "system", .text = instructions});
    HYPURA_TRY(read_input(body, chat, model));
    if (chat.messages.empty()) return refuse(400, "input: at least one item is required");
    HYPURA_TRY(read_flat_tools(body, chat));
    HYPURA_TRY(read_tool_choice(body, chat));
    HYPURA_ASSIGN(const auto parallel, read_bool(body, "parallel_tool_calls"));
    chat.parallel_tool_calls = parallel.value_or(true);
    return chat;
}

}  // namespace

ApiResult<Request> parse_responses(const Json& body) {
    Request request;
    HYPURA_ASSIGN(request.model, require_model(body));
    if (find(body, "previous_response_id") != nullptr)
        return refuse(400, "previous_response_id is not supported: responses are not stored; send the whole input");
    HYPURA_ASSIGN(request.prompt, read_chat(body, request.model));
    HYPURA_ASSIGN(request.sampling, read_sampling(body));
    HYPURA_ASSIGN(request.max_tokens, read_integer(body, "max_output_tokens"));
    HYPURA_ASSIGN(request.format, read_text_format(body));
    HYPURA_TRY(read_logprobs(body, request));
    if (const Json* reasoning = find(body, "reasoning")) set_effort(request, text_field(*reasoning, "effort"));
    HYPURA_ASSIGN(const auto stream, read_bool(body, "stream"));
    request.stream = stream.value_or(false);
    request.truncate = text_field(body, "truncation") == "auto";
    HYPURA_ASSIGN(request.keep_alive, parse_keep_alive(find(body, "keep_alive")));
    return request;
}

}  // namespace hypura::server::openai
