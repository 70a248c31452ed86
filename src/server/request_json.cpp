#include "server/request_json.h"

#include <array>

namespace hypura::server {
namespace {

// What a part of a message holds that no model here can take in; empty: it is something else.
std::string_view media_of(std::string_view type) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kMedia = {{{"image", "images"},
                                                                                      {"image_url", "images"},
                                                                                      {"input_image", "images"},
                                                                                      {"input_audio", "audio"},
                                                                                      {"audio", "audio"},
                                                                                      {"video_url", "video"},
                                                                                      {"file", "files"},
                                                                                      {"input_file", "files"}}};
    const auto found = std::ranges::find(kMedia, type, &std::pair<std::string_view, std::string_view>::first);
    return found == kMedia.end() ? std::string_view() : found->second;
}

std::string text_of(const Json* value) {
    if (value == nullptr) return {};
    return value->is_string() ? value->get<std::string>() : dump(*value);
}

ApiResult<std::string> read_parts(const Json& parts, std::string_view model) {
    std::string text;
    for (const Json& part : parts) {
        if (part.is_string()) {
            text += part.get<std::string>();
            continue;
        }
        const std::string type = text_of(find(part, "type"));
        if (const auto media = media_of(type); !media.empty()) return std::unexpected(does_not_support(model, media));
        text += text_of(find(part, "text"));
    }
    return text;
}

// A tool call's arguments as JSON text: an object as it is, a string that holds one unpacked.
std::string arguments_text(const Json* arguments) {
    if (arguments == nullptr) return "{}";
    if (!arguments->is_string()) return dump(*arguments);
    const auto text = arguments->get<std::string>();
    return text.empty() ? "{}" : text;
}

}  // namespace

Tool make_tool(std::string name, const Json& description, const Json& parameters) {
    const Json definition = {{"type", "function"},
                             {"function", {{"name", name}, {"description", description}, {"parameters", parameters}}}};
    return {std::move(name), dump(parameters), dump(definition)};
}

ApiResult<std::vector<Tool>> read_tools(const Json& body) {
    std::vector<Tool> tools;
    const Json* list = find(body, "tools");
    if (list == nullptr) return tools;
    if (!list->is_array()) return refuse(400, "tools must be an array");
    for (const Json& entry : *list) {
        const Json* function = find(entry, "function");
        if (function == nullptr) continue;  // a kind of tool that only its maker runs (web search, ...)
        const std::string name = text_of(find(*function, "name"));
        if (name.empty()) return refuse(400, "a tool needs a name");
        const Json* parameters = find(*function, "parameters");
        const Json* description = find(*function, "description");
        tools.push_back(make_tool(name, description == nullptr ? Json("") : *description,
                                  parameters == nullptr ? Json::object() : *parameters));
    }
    return tools;
}

ApiResult<std::string> read_content(const Json& message, std::string_view model) {
    if (const Json* images = find(message, "images"); images != nullptr && !images->empty())
        return std::unexpected(does_not_support(model, "images"));
    const Json* content = find(message, "content");
    if (content == nullptr) return std::string();
    if (content->is_string()) return content->get<std::string>();
    if (content->is_array()) return read_parts(*content, model);
    return refuse(400, "the content of a message must be a string or an array of parts");
}

ApiResult<std::vector<ToolCall>> read_tool_calls(const Json& message) {
    std::vector<ToolCall> calls;
    const Json* list = find(message, "tool_calls");
    if (list == nullptr) return calls;
    if (!list->is_array()) return refuse(400, "tool_calls must be an array");
    for (const Json& entry : *list) {
        const Json* function = find(entry, "function");
        if (function == nullptr) return refuse(400, "a tool call needs a function");
        calls.push_back({text_of(find(entry, "id")), text_of(find(*function, "name")),
                         arguments_text(find(*function, "arguments"))});
    }
    return calls;
}

ApiResult<Sampling> read_sampling(const Json& object) {
    Sampling sampling;
    HYPURA_ASSIGN(sampling.temperature, read_number(object, "temperature"));
    HYPURA_ASSIGN(sampling.top_p, read_number(object, "top_p"));
    HYPURA_ASSIGN(sampling.min_p, read_number(object, "min_p"));
    HYPURA_ASSIGN(sampling.typical_p, read_number(object, "typical_p"));
    HYPURA_ASSIGN(sampling.repeat_penalty, read_number(object, "repeat_penalty"));
    HYPURA_ASSIGN(sampling.presence_penalty, read_number(object, "presence_penalty"));
    HYPURA_ASSIGN(sampling.frequency_penalty, read_number(object, "frequency_penalty"));
    HYPURA_ASSIGN(sampling.top_k, read_integer(object, "top_k"));
    HYPURA_ASSIGN(sampling.repeat_last_tokens, read_integer(object, "repeat_last_n"));
    HYPURA_ASSIGN(sampling.seed, read_integer(object, "seed"));
    return sampling;
}

ApiResult<Format> read_response_format(const Json& body) {
    if (const Json* grammar = find(body, "grammar"); grammar != nullptr && grammar->is_string())
        return Format{FormatKind::kGrammar, grammar->get<std::string>()};
    if (const Json* schema = find(body, "json_schema")) return Format{FormatKind::kSchema, dump(*schema)};
    const Json* format = find(body, "response_format");
    if (format == nullptr) return Format{};
    const std::string type = text_of(find(*format, "type"));
    if (type == "json_object") {
        if (const Json* schema = find(*format, "schema")) return Format{FormatKind::kSchema, dump(*schema)};
        return Format{FormatKind::kJson, {}};
    }
    if (type != "json_schema") return Format{};
    const Json* wrapper = find(*format, "json_schema");
    const Json* schema = wrapper == nullptr ? find(*format, "schema") : find(*wrapper, "schema");
    if (schema == nullptr) return refuse(400, "response_format: json_schema needs a schema");
    return Format{FormatKind::kSchema, dump(*schema)};
}

ApiStatus read_tool_choice(const Json& body, ChatPrompt& prompt) {
    const Json* choice = find(body, "tool_choice");
    if (choice == nullptr) return {};
    const std::string word = choice->is_string() ? choice->get<std::string>() : text_of(find(*choice, "type"));
    if (word == "none") {
        prompt.tool_choice = ToolChoice::kNone;
    } else if (word == "required" || word == "any") {
        prompt.tool_choice = ToolChoice::kRequired;
    } else if (word == "function" || word == "tool") {
        const Json* function = find(*choice, "function");
        prompt.tool_choice = ToolChoice::kRequired;
        prompt.required_tool = text_of(find(function == nullptr ? *choice : *function, "name"));
    } else if (word == "allowed_tools") {  // which of them is left to the model
        const Json* allowed = find(*choice, "allowed_tools");
        const std::string mode = text_of(find(allowed == nullptr ? *choice : *allowed, "mode"));
        if (mode == "required") prompt.tool_choice = ToolChoice::kRequired;
    } else if (word != "auto") {
        return refuse(400, "tool_choice: \"{}\" is none of auto, none, required and a function", word);
    }
    return {};
}

void set_effort(Request& request, const std::string& effort) {
    if (effort.empty()) return;
    request.think = effort != "none";
    if (effort != "none") request.think_effort = effort;
}

ApiResult<std::string> require_model(const Json& body) {
    HYPURA_ASSIGN(const auto model, read_string(body, "model"));
    if (!model || model->empty()) return refuse(400, "model is required");
    return *model;
}

}  // namespace hypura::server
