#include "server/tool_calls.h"

#include "server/json.h"

#include <algorithm>
#include <optional>

namespace hypura::server {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr size_t kNowhere = std::string_view::npos;

// Takes what stands in front of `mark` from `text`, and the mark; everything where there is none.
std::string_view take_until(std::string_view& text, std::string_view mark) {
    const size_t at = text.find(mark);
    const std::string_view front = text.substr(0, at);
    text.remove_prefix(at == kNowhere ? text.size() : at + mark.size());
    return front;
}

// False when there is no `mark`; else `text` begins behind it.
bool skip_to(std::string_view& text, std::string_view mark) {
    const size_t at = text.find(mark);
    if (at == kNowhere) return false;
    text.remove_prefix(at + mark.size());
    return true;
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

// {"name","arguments"}, {"name","parameters"} or {"tool_name","parameters"}, also wrapped in {"function": ...}.
std::optional<ToolCall> call_from_json(const Json& json) {
    if (const Json* inner = find(json, "function"); inner != nullptr && inner->is_object())
        return call_from_json(*inner);
    const auto either = [&json](const char* one, const char* other) {
        const Json* value = find(json, one);
        return value == nullptr ? find(json, other) : value;
    };
    const Json* name = either("name", "tool_name");
    if (name == nullptr || !name->is_string()) return std::nullopt;
    const Json* arguments = either("arguments", "parameters");
    ToolCall call{.id = {}, .name = name->get<std::string>(), .arguments = "{}"};
    if (arguments != nullptr)
        call.arguments = arguments->is_string() ? arguments->get<std::string>() : dump(*arguments);
    if (const Json* id = find(json, "id"); id != nullptr && id->is_string()) call.id = id->get<std::string>();
    return call;
}

// Where the JSON value that begins at `text[0]` (a brace or bracket) ends; npos when it does not.
size_t json_end(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            ++depth;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return i + 1;
        }
    }
    return kNowhere;
}

// A call whose arguments are JSON; empty when they are not.
std::optional<ToolCall> call_with_json(std::string_view name, std::string_view arguments) {
    arguments = trimmed(arguments);
    const auto json = try_parse(arguments);
    if (name.empty() || !json || !json->is_object()) return std::nullopt;
    return ToolCall{.id = {}, .name = std::string(name), .arguments = std::string(arguments)};
}

// ---- values without quotation marks --------------------------------------------------------------------------------

// Collects arguments that are written one by one.
class ArgumentList {
public:
    ArgumentList(std::string_view tool, const TextParameters& texts) : name_(tool) {
        if (const auto entry = texts.find(tool); entry != texts.end()) texts_ = &entry->second;
    }

    // A line break at either end belongs to the notation. What is no text may be JSON.
    void add(std::string_view name, std::string_view value) {
        if (value.starts_with('\n')) value.remove_prefix(1);
        if (value.ends_with('\n')) value.remove_suffix(1);
        const std::string key(trimmed(name));
        const bool is_text = texts_ != nullptr && texts_->contains(key);
        const auto json = is_text ? std::nullopt : try_parse(value);
        arguments_[key] = json ? *json : Json(std::string(value));
    }
    ToolCall call() const { return {.id = {}, .name = name_, .arguments = dump(arguments_)}; }

private:
    std::string name_;
    const std::set<std::string>* texts_ = nullptr;
    Json arguments_ = Json::object();
};

// Takes "<TAG…>" from the front of `text` and returns what stands between.
std::optional<std::string_view> take_tag(std::string_view& text, std::string_view tag) {
    if (!skip_to(text, tag)) return std::nullopt;
    if (!text.contains('>')) return std::nullopt;
    return trimmed(take_until(text, ">"));
}

std::string_view without_quotes(std::string_view text) {
    if (text.size() >= 2 && text.front() == '"' && text.back() == '"') return text.substr(1, text.size() - 2);
    return text;
}

// <function=name>{...}</function>, or <function=name><parameter=key>value</parameter>...</function>; also again and
// again.
std::vector<ToolCall> parse_function_tags(std::string_view text, const TextParameters& texts) {
    std::vector<ToolCall> calls;
    while (const auto name = take_tag(text, "<function=")) {
        if (name->empty()) return {};
        std::string_view inside = trimmed(take_until(text, "</function>"));
        if (inside.starts_with('{')) {
            if (!try_parse(inside)) return {};
            calls.push_back({.id = {}, .name = std::string(*name), .arguments = std::string(inside)});
            continue;
        }
        ArgumentList arguments(*name, texts);
        while (const auto key = take_tag(inside, "<parameter="))
            arguments.add(*key, take_until(inside, "</parameter>"));
        calls.push_back(arguments.call());
    }
    return calls;
}

// <invoke name="f"><parameter name="key">value</parameter>...</invoke>: MiniMax.
std::vector<ToolCall> parse_invoke_tags(std::string_view text, const TextParameters& texts) {
    std::vector<ToolCall> calls;
    while (const auto name = take_tag(text, "<invoke name=")) {
        std::string_view inside = take_until(text, "</invoke>");
        ArgumentList arguments(without_quotes(*name), texts);
        while (const auto key = take_tag(inside, "<parameter name="))
            arguments.add(without_quotes(*key), take_until(inside, "</parameter>"));
        calls.push_back(arguments.call());
    }
    return calls;
}

// name<arg_key>key</arg_key><arg_value>value</arg_value>...: GLM from 4.5 on.
std::vector<ToolCall> parse_key_tags(std::string_view text, const TextParameters& texts) {
    std::string_view rest = text;
    const std::string_view name = trimmed(rest.substr(0, rest.find("<arg_key>")));
    if (name.empty() || name.find_first_of("{}[]<> \n") != kNowhere) return {};
    ArgumentList arguments(name, texts);
    while (skip_to(rest, "<arg_key>")) {
        const std::string_view key = take_until(rest, "</arg_key>");
        if (!skip_to(rest, "<arg_value>")) return {};
        arguments.add(key, take_until(rest, "</arg_value>"));
    }
    return {arguments.call()};
}

// ---- markers between the calls -------------------------------------------------------------------------------------

// The older form is a JSON array; the newer one name[ARGS]{...}, perhaps again and again.
std::vector<ToolCall> parse_mistral(std::string_view text) {
    if (!text.contains("[ARGS]")) return parse_json_calls(text);
    std::vector<ToolCall> calls;
    for (std::string_view rest = trimmed(text); !rest.empty();) {
        std::string_view head = take_until(rest, "[ARGS]");
        rest = trimmed(rest);
        const size_t end = json_end(rest);
        if (end == kNowhere) return {};
        calls.push_back({.id = {},
                         .name = std::string(trimmed(take_until(head, "[CALL_ID]"))),
                         .arguments = std::string(rest.substr(0, end))});
        rest = trimmed(rest.substr(end));
        if (rest.starts_with("[TOOL_CALLS]")) skip_to(rest, "[TOOL_CALLS]");
    }
    return calls;
}

// begin NAME sep {...} end: V3.1; begin "function" sep NAME ```json {...} ``` end: V3 and R1.
std::optional<ToolCall> parse_deepseek_call(std::string_view text) {
    const std::string_view head = trimmed(take_until(text, "<｜tool▁sep｜>"));
    if (head != "function") return call_with_json(head, text);
    const std::string_view name = trimmed(take_until(text, "\n"));
    text = trimmed(text);
    if (text.starts_with("```")) take_until(text, "\n");
    return call_with_json(name, text.substr(0, text.rfind("```")));
}

// begin functions.NAME:0 argument {...} end: Kimi K2, whose templates want to see "functions.NAME:0" again as the id.
std::optional<ToolCall> parse_kimi_call(std::string_view text) {
    const std::string_view id = trimmed(take_until(text, "<|tool_call_argument_begin|>"));
    std::string_view name = id.substr(0, id.rfind(':'));
    if (name.starts_with("functions.")) skip_to(name, "functions.");
    auto call = call_with_json(name, text);
    if (call) call->id = id;
    return call;
}

// Calls that begin and end with a marker each.
std::vector<ToolCall> parse_each(std::string_view text, std::string_view begin, std::string_view end,
                                 std::optional<ToolCall> (*parse)(std::string_view)) {
    std::vector<ToolCall> calls;
    while (skip_to(text, begin)) {
        auto call = parse(take_until(text, end));
        if (!call) return {};
        calls.push_back(*std::move(call));
    }
    return calls;
}

// <tool_call> is what Hermes and Qwen, Qwen's coders and GLM have in common.
std::vector<ToolCall> parse_hermes(std::string_view text, const TextParameters& texts) {
    if (auto calls = parse_json_calls(text); !calls.empty()) return calls;
    if (auto calls = parse_function_tags(text, texts); !calls.empty()) return calls;
    return parse_key_tags(text, texts);
}

bool is_text(const Json& schema) {
    const Json* type = find(schema, "type");
    return type != nullptr && *type == "string";
}

}  // namespace

std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(kSpace);
    return begin == kNowhere ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::set<std::string> text_parameters(const std::string& schema_json) {
    std::set<std::string> names;
    const auto schema = try_parse(schema_json);
    const Json* properties = schema ? find(*schema, "properties") : nullptr;
    if (properties == nullptr || !properties->is_object()) return names;
    for (const auto& [name, property] : properties->items())
        if (is_text(property)) names.insert(name);
    return names;
}

std::vector<ToolCall> parse_json_calls(std::string_view text) {
    std::vector<ToolCall> calls;
    for (text = trimmed(text); text.starts_with('{') || text.starts_with('['); text = trimmed(text)) {
        const size_t end = json_end(text);
        const auto json = end == kNowhere ? std::nullopt : try_parse(text.substr(0, end));
        if (!json) return {};
        const Json list = json->is_array() ? *json : Json::array({*json});
        for (const Json& entry : list) {
            auto call = call_from_json(entry);
            if (!call) return {};
            calls.push_back(*std::move(call));
        }
        text.remove_prefix(end);
        while (text.starts_with(';') || text.starts_with(',')) text.remove_prefix(1);
    }
    return text.empty() ? calls : std::vector<ToolCall>{};
}

std::vector<ToolCall> parse_calls(ToolStyle style, std::string_view text, const TextParameters& texts) {
    switch (style) {
        case ToolStyle::kMistral:
            return parse_mistral(text);
        case ToolStyle::kFunction:
            return parse_function_tags(text, texts);
        case ToolStyle::kHermes:
            return parse_hermes(text, texts);
        case ToolStyle::kDeepSeek:
            return parse_each(text, "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", parse_deepseek_call);
        case ToolStyle::kKimi:
            return parse_each(text, "<|tool_call_begin|>", "<|tool_call_end|>", parse_kimi_call);
        case ToolStyle::kInvoke:
            return text.contains("<invoke") ? parse_invoke_tags(text, texts) : parse_json_calls(text);
        case ToolStyle::kLlama:
        case ToolStyle::kJsonList:
        case ToolStyle::kHarmony:
        case ToolStyle::kNone:
            break;
    }
    return parse_json_calls(text);
}

}  // namespace hypura::server
