// Ollama's requests.
#include "server/ollama.h"
#include "server/request_json.h"
#include "server/text_util.h"

#include <algorithm>
#include <cctype>

namespace hypura::server::ollama {
namespace {

ApiStatus read_options(const Json& body, Request& request) {
    const Json* options = find(body, "options");
    if (options == nullptr) return {};
    if (!options->is_object()) return refuse(400, "options must be an object");
    HYPURA_ASSIGN(request.sampling, read_sampling(*options));
    HYPURA_ASSIGN(request.max_tokens, read_integer(*options, "num_predict"));
    HYPURA_ASSIGN(request.context_tokens, read_integer(*options, "num_ctx"));
    HYPURA_ASSIGN(request.stop, read_strings(*options, "stop"));
    HYPURA_ASSIGN(const auto keep, read_integer(*options, "num_keep"));
    request.keep_tokens = keep.value_or(request.keep_tokens);
    return {};
}

// "json", a schema, or ""; `grammar` beside it is ours: GBNF as llama-server takes it.
ApiResult<Format> read_format(const Json& body) {
    HYPURA_ASSIGN(const auto grammar, read_string(body, "grammar"));
    if (grammar && !grammar->empty()) return Format{FormatKind::kGrammar, *grammar};
    const Json* format = find(body, "format");
    if (format == nullptr) return Format{};
    if (format->is_object()) return Format{FormatKind::kSchema, dump(*format)};
    if (format->is_string() && format->get<std::string>().empty()) return Format{};
    if (*format == "json") return Format{FormatKind::kJson, {}};
    return refuse(400, "invalid format: {}; expected \"json\" or a valid JSON Schema object", dump(*format));
}

ApiStatus read_think(const Json& body, Request& request) {
    const Json* think = find(body, "think");
    if (think == nullptr) return {};
    if (think->is_boolean()) {
        request.think = think->get<bool>();
    } else if (think->is_string()) {
        set_effort(request, think->get<std::string>());
    } else {
        return refuse(400, "think must be a boolean or one of \"low\", \"medium\", \"high\" and \"max\"");
    }
    request.think_must_be_supported = request.think.value_or(false);
    return {};
}

ApiStatus read_logprobs(const Json& body, Request& request) {
    HYPURA_ASSIGN(const auto wanted, read_bool(body, "logprobs"));
    HYPURA_ASSIGN(const auto top, read_integer(body, "top_logprobs"));
    if (top.value_or(0) < 0 || top.value_or(0) > 20) return refuse(400, "top_logprobs must be between 0 and 20");
    request.logprobs = wanted.value_or(false);
    request.top_logprobs = static_cast<uint32_t>(top.value_or(0));
    return {};
}

// What chat and generate have in common.
ApiResult<Request> read_common(const Json& body) {
    Request request;
    HYPURA_ASSIGN(request.model, parse_model_name(body));
    HYPURA_TRY(read_options(body, request));
    HYPURA_ASSIGN(request.format, read_format(body));
    HYPURA_TRY(read_think(body, request));
    HYPURA_TRY(read_logprobs(body, request));
    HYPURA_ASSIGN(const auto stream, read_bool(body, "stream"));
    HYPURA_ASSIGN(const auto truncate, read_bool(body, "truncate"));
    request.stream = stream.value_or(true);
    request.truncate = truncate.value_or(true);
    HYPURA_ASSIGN(const auto shift, read_bool(body, "shift"));
    request.shift = shift.value_or(true);
    HYPURA_ASSIGN(request.keep_alive, parse_keep_alive(find(body, "keep_alive")));
    return request;
}

std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

ApiResult<Message> read_message(const Json& json, std::string_view model) {
    Message message;
    HYPURA_ASSIGN(const auto role, read_string(json, "role"));
    message.role = lower(role.value_or("user"));
    if (message.role == "developer") message.role = "system";
    HYPURA_ASSIGN(message.text, read_content(json, model));
    HYPURA_ASSIGN(const auto thinking, read_string(json, "thinking"));
    message.thinking = thinking.value_or("");
    HYPURA_ASSIGN(message.tool_calls, read_tool_calls(json));
    HYPURA_ASSIGN(const auto id, read_string(json, "tool_call_id"));
    HYPURA_ASSIGN(const auto name, read_string(json, "tool_name"));
    message.tool_call_id = id.value_or("");
    message.tool_name = name.value_or("");
    return message;
}

ApiResult<std::vector<Message>> read_messages(const Json& body, std::string_view model) {
    std::vector<Message> messages;
    const Json* list = find(body, "messages");
    if (list == nullptr) return messages;
    if (!list->is_array()) return refuse(400, "messages must be an array");
    for (const Json& entry : *list) {
        HYPURA_ASSIGN(Message message, read_message(entry, model));
        messages.push_back(std::move(message));
    }
    return messages;
}

ApiResult<std::vector<int32_t>> read_context(const Json& body) {
    std::vector<int32_t> tokens;
    const Json* list = find(body, "context");
    if (list == nullptr) return tokens;
    if (!list->is_array()) return refuse(400, "context must be an array of tokens");
    for (const Json& token : *list) {
        if (!token.is_number()) return refuse(400, "context must be an array of tokens");
        tokens.push_back(token.get<int32_t>());
    }
    return tokens;
}

struct GenerateFields {
    std::string prompt, suffix, system, template_text;
    bool raw = false;
};

ApiResult<GenerateFields> read_generate_fields(const Json& body) {
    GenerateFields fields;
    const auto text = [&body](std::string_view key, std::string& to) -> ApiStatus {
        HYPURA_ASSIGN(const auto value, read_string(body, key));
        to = value.value_or("");
        return {};
    };
    HYPURA_TRY(text("prompt", fields.prompt));
    HYPURA_TRY(text("suffix", fields.suffix));
    HYPURA_TRY(text("system", fields.system));
    HYPURA_TRY(text("template", fields.template_text));
    HYPURA_ASSIGN(const auto raw, read_bool(body, "raw"));
    fields.raw = raw.value_or(false);
    return fields;
}

ApiStatus check_generate_fields(const GenerateFields& fields, const Request& request) {
    const bool dressed = !fields.template_text.empty() || !fields.system.empty() || !request.prefix_tokens.empty();
    if (fields.raw && dressed) return refuse(400, "raw mode does not support template, system, or context");
    if (!fields.template_text.empty())
        return refuse(400, "the template of a request is not supported: the model's own is used; send raw instead");
    return {};
}

ChatPrompt one_turn(const GenerateFields& fields) {
    ChatPrompt chat;
    if (!fields.system.empty()) chat.messages.push_back({.role = "system", .text = fields.system});
    chat.messages.push_back({.role = "user", .text = fields.prompt});
    return chat;
}

}  // namespace

ApiResult<std::string> parse_model_name(const Json& body) {
    HYPURA_ASSIGN(const auto model, read_string(body, "model"));
    HYPURA_ASSIGN(const auto name, read_string(body, "name"));
    std::string chosen = model && !model->empty() ? *model : name.value_or("");
    if (chosen.empty()) return refuse(400, "model is required");
    return chosen;
}

ApiResult<Request> parse_chat(const Json& body) {
    HYPURA_ASSIGN(Request request, read_common(body));
    ChatPrompt chat;
    HYPURA_ASSIGN(chat.messages, read_messages(body, request.model));
    HYPURA_ASSIGN(chat.tools, read_tools(body));
    HYPURA_TRY(read_tool_choice(body, chat));
    if (chat.messages.empty()) request.stream = false;
    request.prompt = std::move(chat);
    return request;
}

ApiResult<Request> parse_generate(const Json& body) {
    HYPURA_ASSIGN(Request request, read_common(body));
    HYPURA_ASSIGN(request.prefix_tokens, read_context(body));
    HYPURA_ASSIGN(const GenerateFields fields, read_generate_fields(body));
    HYPURA_TRY(check_generate_fields(fields, request));
    if (const Json* images = find(body, "images"); images != nullptr && !images->empty())
        return std::unexpected(does_not_support(request.model, "images"));

    if (fields.prompt.empty() && fields.suffix.empty()) {
        request.stream = false;
        request.prompt = TextPrompt{};
    } else if (fields.raw) {
        request.prompt = TextPrompt{fields.prompt, std::nullopt};
    } else if (!fields.suffix.empty()) {
        request.prompt = TextPrompt{fields.prompt, fields.suffix};
    } else {
        request.prompt = one_turn(fields);
        request.return_context = true;
    }
    return request;
}

bool only_loads(const Request& request) {
    if (const auto* chat = std::get_if<ChatPrompt>(&request.prompt)) return chat->messages.empty();
    const auto& text = std::get<TextPrompt>(request.prompt);
    return text.text.empty() && !text.suffix;
}

ApiResult<EmbedRequest> parse_embed(const Json& body) {
    EmbedRequest request;
    HYPURA_ASSIGN(request.model, parse_model_name(body));
    if (const Json* input = find(body, "input"); input != nullptr && !input->is_string() && !input->is_array())
        return refuse(400, "invalid input type");
    HYPURA_ASSIGN(request.inputs, read_strings(body, "input"));
    HYPURA_ASSIGN(request.dimensions, read_integer(body, "dimensions"));
    HYPURA_ASSIGN(const auto truncate, read_bool(body, "truncate"));
    request.truncate = truncate.value_or(true);
    HYPURA_ASSIGN(request.keep_alive, parse_keep_alive(find(body, "keep_alive")));
    return request;
}

ApiResult<EmbedRequest> parse_embeddings(const Json& body) {
    EmbedRequest request;
    HYPURA_ASSIGN(request.model, parse_model_name(body));
    HYPURA_ASSIGN(const auto prompt, read_string(body, "prompt"));
    if (prompt && !prompt->empty()) request.inputs.push_back(*prompt);
    request.normalize = false;
    HYPURA_ASSIGN(request.keep_alive, parse_keep_alive(find(body, "keep_alive")));
    return request;
}

}  // namespace hypura::server::ollama
