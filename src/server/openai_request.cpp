// OpenAI's requests.
#include "server/openai.h"
#include "server/request_json.h"
#include "server/text_util.h"

namespace hypura::server::openai {
namespace {

ApiResult<Message> read_message(const Json& json, std::string_view model) {
    Message message;
    HYPURA_ASSIGN(const auto role, read_string(json, "role"));
    message.role = role.value_or("user");
    if (message.role == "developer") message.role = "system";
    HYPURA_ASSIGN(message.text, read_content(json, model));
    HYPURA_ASSIGN(message.tool_calls, read_tool_calls(json));
    for (const char* key : {"reasoning", "reasoning_content"}) {
        HYPURA_ASSIGN(const auto thinking, read_string(json, key));
        if (thinking) message.thinking = *thinking;
    }
    HYPURA_ASSIGN(const auto id, read_string(json, "tool_call_id"));
    HYPURA_ASSIGN(const auto name, read_string(json, "name"));
    message.tool_call_id = id.value_or("");
    message.tool_name = name.value_or("");
    return message;
}

// The newer name of a limit wins over the older one.
ApiResult<std::optional<int64_t>> read_max_tokens(const Json& body) {
    HYPURA_ASSIGN(const auto newer, read_integer(body, "max_completion_tokens"));
    HYPURA_ASSIGN(const auto older, read_integer(body, "max_tokens"));
    return newer ? newer : older;
}

ApiStatus read_reasoning(const Json& body, Request& request) {
    HYPURA_ASSIGN(const auto effort, read_string(body, "reasoning_effort"));
    set_effort(request, effort.value_or(""));
    if (const Json* reasoning = find(body, "reasoning")) {
        HYPURA_ASSIGN(const auto nested, read_string(*reasoning, "effort"));
        set_effort(request, nested.value_or(""));
    }
    if (const Json* template_options = find(body, "chat_template_kwargs")) {
        HYPURA_ASSIGN(const auto enabled, read_bool(*template_options, "enable_thinking"));
        if (enabled) request.think = enabled;
    }
    return {};
}

// chat: a boolean and a number; completions: the number alone, under the first name.
ApiStatus read_logprobs(const Json& body, Request& request) {
    const Json* logprobs = find(body, "logprobs");
    if (logprobs != nullptr && logprobs->is_number()) {
        request.logprobs = true;
        request.top_logprobs = logprobs->get<uint32_t>();
    } else {
        HYPURA_ASSIGN(const auto wanted, read_bool(body, "logprobs"));
        HYPURA_ASSIGN(const auto top, read_integer(body, "top_logprobs"));
        request.logprobs = wanted.value_or(false);
        request.top_logprobs = static_cast<uint32_t>(std::clamp<int64_t>(top.value_or(0), 0, 1000));
    }
    if (request.top_logprobs > 20) return refuse(400, "top_logprobs must be between 0 and 20");
    return {};
}

ApiStatus read_stream(const Json& body, Request& request) {
    HYPURA_ASSIGN(const auto stream, read_bool(body, "stream"));
    request.stream = stream.value_or(false);
    request.include_usage = false;
    if (const Json* options = find(body, "stream_options")) {
        HYPURA_ASSIGN(const auto usage, read_bool(*options, "include_usage"));
        request.include_usage = usage.value_or(false);
    }
    return {};
}

// OpenClaw puts Ollama's "options" into this body.
ApiStatus read_ollama_options(const Json& body, Request& request) {
    const Json* options = find(body, "options");
    if (options == nullptr) return {};
    HYPURA_ASSIGN(request.context_tokens, read_integer(*options, "num_ctx"));
    return {};
}

ApiResult<Request> read_common(const Json& body) {
    Request request;
    HYPURA_ASSIGN(request.model, require_model(body));
    HYPURA_ASSIGN(request.sampling, read_sampling(body));
    HYPURA_ASSIGN(request.max_tokens, read_max_tokens(body));
    HYPURA_ASSIGN(request.stop, read_strings(body, "stop"));
    HYPURA_ASSIGN(request.format, read_response_format(body));
    HYPURA_TRY(read_logprobs(body, request));
    HYPURA_TRY(read_stream(body, request));
    HYPURA_TRY(read_reasoning(body, request));
    HYPURA_TRY(read_ollama_options(body, request));
    HYPURA_ASSIGN(request.keep_alive, parse_keep_alive(find(body, "keep_alive")));
    HYPURA_ASSIGN(const auto choices, read_integer(body, "n"));
    if (choices.value_or(1) != 1) return refuse(400, "n must be 1: one answer a request");
    return request;
}

bool holds_numbers(const Json& list) { return list.is_array() && !list.empty() && list.front().is_number(); }

std::vector<int32_t> to_tokens(const Json& list) {
    std::vector<int32_t> tokens;
    for (const Json& token : list)
        if (token.is_number()) tokens.push_back(token.get<int32_t>());
    return tokens;
}

// A string, an array of one string, tokens, or an array of one array of tokens.
ApiStatus read_prompt(const Json& body, Request& request) {
    TextPrompt prompt;
    const Json* value = find(body, "prompt");
    if (value != nullptr && value->is_array() && value->size() == 1 && !value->front().is_number())
        value = &value->front();
    if (value == nullptr) {
        prompt.text = "";
    } else if (value->is_string()) {
        prompt.text = value->get<std::string>();
    } else if (holds_numbers(*value)) {
        request.prefix_tokens = to_tokens(*value);
    } else {
        return refuse(400, "prompt must be one string or one array of tokens");
    }
    HYPURA_ASSIGN(const auto suffix, read_string(body, "suffix"));
    if (suffix && !suffix->empty()) prompt.suffix = *suffix;
    request.prompt = std::move(prompt);
    return {};
}

// "" is an input like any other; null and [] are none.
ApiStatus read_inputs(const Json& body, EmbedRequest& request) {
    const Json* input = find(body, "input");
    if (input == nullptr || (input->is_array() && input->empty())) return refuse(400, "invalid input");
    if (holds_numbers(*input)) {
        request.token_inputs.push_back(to_tokens(*input));
        return {};
    }
    if (input->is_array() && input->front().is_array()) {
        for (const Json& tokens : *input) request.token_inputs.push_back(to_tokens(tokens));
        return {};
    }
    HYPURA_ASSIGN(request.inputs, read_strings(body, "input"));
    return {};
}

}  // namespace

ApiResult<ChatPrompt> parse_chat_prompt(const Json& body, std::string_view model) {
    ChatPrompt chat;
    const Json* list = find(body, "messages");
    if (list == nullptr || !list->is_array() || list->empty()) return refuse(400, "messages: at least one is required");
    for (const Json& entry : *list) {
        HYPURA_ASSIGN(Message message, read_message(entry, model));
        chat.messages.push_back(std::move(message));
    }
    HYPURA_ASSIGN(chat.tools, read_tools(body));
    HYPURA_TRY(read_tool_choice(body, chat));
    HYPURA_ASSIGN(const auto parallel, read_bool(body, "parallel_tool_calls"));
    chat.parallel_tool_calls = parallel.value_or(true);
    return chat;
}

ApiResult<Request> parse_chat(const Json& body) {
    HYPURA_ASSIGN(Request request, read_common(body));
    HYPURA_ASSIGN(request.prompt, parse_chat_prompt(body, request.model));
    request.truncate = false;  // a client of this API shortens its own history
    return request;
}

ApiResult<Request> parse_completion(const Json& body) {
    HYPURA_ASSIGN(Request request, read_common(body));
    HYPURA_TRY(read_prompt(body, request));
    request.truncate = false;
    return request;
}

ApiResult<EmbedRequest> parse_embeddings(const Json& body) {
    EmbedRequest request;
    HYPURA_ASSIGN(request.model, require_model(body));
    HYPURA_TRY(read_inputs(body, request));
    HYPURA_ASSIGN(request.dimensions, read_integer(body, "dimensions"));
    HYPURA_ASSIGN(const auto encoding, read_string(body, "encoding_format"));
    request.base64 = encoding == "base64";
    return request;
}

}  // namespace hypura::server::openai
