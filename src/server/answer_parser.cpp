#include "server/answer_parser.h"

#include "server/json.h"

#include <algorithm>
#include <array>
#include <optional>

namespace hypura::server {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string_view trimmed(std::string_view text) {
    const size_t begin = text.find_first_not_of(kSpace);
    return begin == std::string_view::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// Length of the longest end of `text` that is a beginning of `marker`, but not all of it.
size_t partial_length(std::string_view text, std::string_view marker) {
    for (size_t length = std::min(text.size(), marker.size() - 1); length > 0; --length)
        if (text.ends_with(marker.substr(0, length))) return length;
    return 0;
}

// ---- one call ------------------------------------------------------------------------------------------------------

// {"name","arguments"} or {"name","parameters"}, also wrapped in {"function": ...}.
std::optional<ToolCall> call_from_json(const Json& json) {
    if (const Json* inner = find(json, "function"); inner != nullptr && inner->is_object())
        return call_from_json(*inner);
    const Json* name = find(json, "name");
    if (name == nullptr || !name->is_string()) return std::nullopt;
    const Json* arguments = find(json, "arguments");
    if (arguments == nullptr) arguments = find(json, "parameters");
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
    return std::string_view::npos;
}

// A parameter's value as it stands: JSON where it is JSON, else a string.
Json value_from_text(std::string_view text) {
    if (text.starts_with('\n')) text.remove_prefix(1);
    if (text.ends_with('\n')) text.remove_suffix(1);
    const auto json = try_parse(text);
    return json ? *json : Json(std::string(text));
}

// Takes "<TAG=name>" from the front of `text` and returns the name.
std::optional<std::string_view> take_tag(std::string_view& text, std::string_view tag) {
    const size_t begin = text.find(tag);
    const size_t end = begin == std::string_view::npos ? begin : text.find('>', begin);
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view name = trimmed(text.substr(begin + tag.size(), end - begin - tag.size()));
    text.remove_prefix(end + 1);
    return name;
}

Json tagged_arguments(std::string_view text) {
    Json arguments = Json::object();
    while (const auto name = take_tag(text, "<parameter=")) {
        const size_t end = std::min(text.find("</parameter>"), text.size());
        arguments[std::string(*name)] = value_from_text(text.substr(0, end));
        text.remove_prefix(std::min(text.size(), end + std::string_view("</parameter>").size()));
    }
    return arguments;
}

}  // namespace

std::vector<ToolCall> parse_json_calls(std::string_view text) {
    std::vector<ToolCall> calls;
    for (text = trimmed(text); text.starts_with('{') || text.starts_with('['); text = trimmed(text)) {
        const size_t end = json_end(text);
        const auto json = end == std::string_view::npos ? std::nullopt : try_parse(text.substr(0, end));
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

std::vector<ToolCall> parse_tagged_call(std::string_view text) {
    const auto name = take_tag(text, "<function=");
    if (!name || name->empty()) return {};
    const std::string_view inside = trimmed(text.substr(0, std::min(text.find("</function>"), text.size())));
    if (!inside.starts_with('{'))
        return {ToolCall{.name = std::string(*name), .arguments = dump(tagged_arguments(inside))}};
    if (!try_parse(inside)) return {};
    return {ToolCall{.name = std::string(*name), .arguments = std::string(inside)}};
}

namespace {

// ---- a scanner for markers -----------------------------------------------------------------------------------------

// Text that is waiting to be understood. find_marker says where the first of some markers begins, or how much is
// certainly none.
class Pending {
public:
    void add(std::string_view text) { text_ += text; }
    const std::string& text() const { return text_; }
    bool empty() const { return text_.empty(); }

    std::string take(size_t length) {
        std::string front = text_.substr(0, length);
        text_.erase(0, length);
        return front;
    }
    std::string take_all() { return std::exchange(text_, {}); }

    struct Found {
        size_t at = 0;            // where the marker begins; without one, how much is free of any
        std::string_view marker;  // empty: none
    };
    Found find_marker(std::initializer_list<std::string_view> markers) const {
        Found found{text_.size(), {}};
        size_t held = 0;
        for (const std::string_view marker : markers) {
            if (marker.empty()) continue;
            const size_t at = text_.find(marker);
            if (at != std::string::npos && at <= found.at && (at < found.at || found.marker.empty()))
                found = {at, marker};
            held = std::max(held, partial_length(text_, marker));
        }
        if (found.marker.empty()) found.at = text_.size() - held;
        return found;
    }

private:
    std::string text_;
};

// ---- thinking and tags: everything but harmony ---------------------------------------------------------------------

class TagParser final : public AnswerParser {
public:
    explicit TagParser(const AnswerParserOptions& options) : family_(options.family), tool_names_(options.tool_names) {
        if (tool_names_.empty()) family_.tools = ToolStyle::kNone;
        state_ = options.begins_thinking ? State::kThinking : State::kText;
        trim_ = options.begins_thinking;
    }

    std::vector<AnswerPart> push(std::string_view text) override {
        pending_.add(text);
        while (step()) {
        }
        return std::exchange(parts_, {});
    }

    std::vector<AnswerPart> finish() override {
        const std::string rest = pending_.take_all();
        if (state_ == State::kThinking) say_thinking(rest);
        if (state_ == State::kText) say(rest);
        if (state_ == State::kCall) end_call(rest, "");
        return std::exchange(parts_, {});
    }

private:
    enum class State { kText, kThinking, kCall };

    // One transition; false when more text is needed.
    bool step() {
        if (state_ == State::kThinking) return step_thinking();
        if (state_ == State::kCall) return step_call();
        if (awaits_bare_call()) return false;
        return may_be_bare_call() ? step_bare() : step_text();
    }

    bool step_thinking() {
        const auto found = pending_.find_marker({family_.think_close});
        say_thinking(pending_.take(found.at));
        if (found.marker.empty()) return false;
        pending_.take(found.marker.size());
        state_ = State::kText;
        trim_ = true;
        return true;
    }

    bool step_text() {
        const auto found = pending_.find_marker({family_.think_open, call_open()});
        say(pending_.take(found.at));
        if (found.marker.empty()) return false;
        marker_ = pending_.take(found.marker.size());
        if (found.marker == family_.think_open && said_text_) {
            say(marker_);  // thinking comes first; later on this is somebody writing about tags
            return true;
        }
        state_ = found.marker == family_.think_open ? State::kThinking : State::kCall;
        trim_ = state_ == State::kThinking;
        return true;
    }

    bool step_call() {
        const std::string_view close = call_close();
        if (close.empty()) return false;  // to the end of the answer
        const size_t at = pending_.text().find(close);
        if (at == std::string::npos) return false;
        const std::string inside = pending_.take(at);
        end_call(inside, pending_.take(close.size()));
        return true;
    }

    // Llama writes a call as the whole answer, without a marker. White space may stand before it.
    bool awaits_bare_call() const {
        return family_.tools == ToolStyle::kLlama && !said_text_ && trimmed(pending_.text()).empty();
    }
    bool may_be_bare_call() const {
        if (family_.tools != ToolStyle::kLlama || said_text_) return false;
        const std::string_view text = trimmed(pending_.text());
        return !text.empty() && text.front() == '{';
    }
    bool step_bare() {
        marker_.clear();
        state_ = State::kCall;
        return true;
    }

    std::string_view call_open() const {
        switch (family_.tools) {
            case ToolStyle::kHermes:
                return "<tool_call>";
            case ToolStyle::kLlama:
                return "<|python_tag|>";
            case ToolStyle::kMistral:
                return "[TOOL_CALLS]";
            case ToolStyle::kFunction:
                return "<function=";
            case ToolStyle::kHarmony:
            case ToolStyle::kNone:
                break;
        }
        return {};
    }
    std::string_view call_close() const {
        if (family_.tools == ToolStyle::kHermes) return "</tool_call>";
        if (family_.tools == ToolStyle::kFunction) return "</function>";
        return {};
    }

    std::vector<ToolCall> read_calls(const std::string& inside) const {
        if (family_.tools == ToolStyle::kFunction) return parse_tagged_call("<function=" + inside);
        if (family_.tools == ToolStyle::kMistral) return read_mistral(inside);
        auto calls = parse_json_calls(inside);
        return calls.empty() && family_.tools == ToolStyle::kHermes ? parse_tagged_call(inside) : calls;
    }

    // The older form is a JSON array; the newer one name[ARGS]{...}, perhaps again and again.
    static std::vector<ToolCall> read_mistral(std::string_view text) {
        if (!text.contains("[ARGS]")) return parse_json_calls(text);
        std::vector<ToolCall> calls;
        for (std::string_view rest = text; !trimmed(rest).empty();) {
            const size_t arguments = rest.find("[ARGS]");
            if (arguments == std::string_view::npos) return {};
            std::string_view name = rest.substr(0, arguments);
            name = trimmed(name.substr(0, std::min(name.find("[CALL_ID]"), name.size())));
            rest = trimmed(rest.substr(arguments + std::string_view("[ARGS]").size()));
            const size_t end = json_end(rest);
            if (end == std::string_view::npos) return {};
            calls.push_back({.name = std::string(name), .arguments = std::string(rest.substr(0, end))});
            rest = trimmed(rest.substr(end));
            if (rest.starts_with("[TOOL_CALLS]")) rest.remove_prefix(std::string_view("[TOOL_CALLS]").size());
        }
        return calls;
    }

    bool known(const std::vector<ToolCall>& calls) const {
        return !calls.empty() &&
               std::ranges::all_of(calls, [this](const ToolCall& call) { return tool_names_.contains(call.name); });
    }

    // What is no call of a known tool is text after all, markers included.
    void end_call(const std::string& inside, const std::string& close) {
        const auto calls = read_calls(inside);
        state_ = State::kText;
        if (known(calls)) {
            for (const ToolCall& call : calls) parts_.emplace_back(call);
            trim_ = true;
            called_ = true;
        } else {
            say(marker_ + inside + close);
        }
    }

    // White space around markers belongs to them.
    void say(std::string text) {
        if (trim_ || called_) text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
        if (text.empty()) return;
        trim_ = false;
        called_ = false;
        said_text_ = said_text_ || !trimmed(text).empty();
        append<TextPart>(std::move(text));
    }
    void say_thinking(std::string text) {
        if (trim_) text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
        if (text.empty()) return;
        trim_ = false;
        append<ThinkingPart>(std::move(text));
    }
    template <class Part>
    void append(std::string text) {
        if (!parts_.empty() && std::holds_alternative<Part>(parts_.back()))
            std::get<Part>(parts_.back()).text += text;
        else
            parts_.emplace_back(Part{std::move(text)});
    }

    TemplateFamily family_;
    std::set<std::string> tool_names_;
    Pending pending_;
    std::vector<AnswerPart> parts_;
    State state_ = State::kText;
    std::string marker_;   // that opened the call
    bool trim_ = false;    // drop white space before the next text
    bool called_ = false;  // between two calls
    bool said_text_ = false;
};

// ---- harmony: <|channel|>NAME to=TOOL<|message|>TEXT<|end|> --------------------------------------------------------

class HarmonyParser final : public AnswerParser {
public:
    explicit HarmonyParser(const AnswerParserOptions& options) : tool_names_(options.tool_names) {}

    std::vector<AnswerPart> push(std::string_view text) override {
        pending_.add(text);
        while (in_body_ ? step_body() : step_header()) {
        }
        return std::exchange(parts_, {});
    }
    std::vector<AnswerPart> finish() override {
        if (in_body_) {
            add_body(pending_.take_all());
            end_body();
        } else if (!saw_marker_ && !pending_.empty()) {
            parts_.emplace_back(TextPart{pending_.take_all()});  // no channels at all: a constrained answer, say
        }
        return std::exchange(parts_, {});
    }

private:
    bool step_header() {
        const auto found = pending_.find_marker({"<|message|>"});
        saw_marker_ = saw_marker_ || pending_.text().contains("<|");
        if (found.marker.empty()) return false;
        header_ = pending_.take(found.at);
        pending_.take(found.marker.size());
        in_body_ = true;
        return true;
    }
    bool step_body() {
        const auto found = pending_.find_marker({"<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>"});
        add_body(pending_.take(found.at));
        if (found.marker.empty()) return false;
        const bool next_header = found.marker == "<|start|>" || found.marker == "<|channel|>";
        if (!next_header) pending_.take(found.marker.size());
        end_body();
        return true;
    }

    std::string tool_name() const {
        const size_t at = header_.find("to=");
        if (at == std::string::npos) return {};
        std::string name = header_.substr(at + 3);
        name.erase(std::min(name.find_first_of(" <\n"), name.size()));
        if (name.starts_with("functions.")) name.erase(0, std::string_view("functions.").size());
        return name;
    }
    bool is_analysis() const { return header_.contains("analysis"); }

    void add_body(std::string text) {
        if (tool_names_.contains(tool_name())) {
            call_ += text;
        } else if (!text.empty() && is_analysis()) {
            parts_.emplace_back(ThinkingPart{std::move(text)});
        } else if (!text.empty()) {
            parts_.emplace_back(TextPart{std::move(text)});
        }
    }
    void end_body() {
        if (const std::string name = tool_name(); tool_names_.contains(name)) {
            const std::string arguments(trimmed(std::exchange(call_, {})));
            if (try_parse(arguments))
                parts_.emplace_back(ToolCall{.name = name, .arguments = arguments});
            else
                parts_.emplace_back(TextPart{arguments});
        }
        in_body_ = false;
    }

    std::set<std::string> tool_names_;
    Pending pending_;
    std::vector<AnswerPart> parts_;
    std::string header_, call_;
    bool in_body_ = false;
    bool saw_marker_ = false;
};

}  // namespace

std::unique_ptr<AnswerParser> make_answer_parser(const AnswerParserOptions& options) {
    if (options.family.tools == ToolStyle::kHarmony) return std::make_unique<HarmonyParser>(options);
    return std::make_unique<TagParser>(options);
}

}  // namespace hypura::server
