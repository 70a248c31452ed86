#include "server/answer_parser.h"

#include "server/json.h"

#include <algorithm>
#include <array>
#include <optional>

namespace hypura::server {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

// Length of the longest end of `text` that is a beginning of `marker`, but not all of it.
size_t partial_length(std::string_view text, std::string_view marker) {
    for (size_t length = std::min(text.size(), marker.size() - 1); length > 0; --length)
        if (text.ends_with(marker.substr(0, length))) return length;
    return 0;
}

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
    explicit TagParser(const AnswerParserOptions& options)
        : family_(options.family), tool_names_(options.tool_names), texts_(options.text_parameters) {
        if (tool_names_.empty()) family_.ignore_tools();
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
        const auto found = pending_.find_marker({family_.think_open, family_.call_open});
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
        const std::string& close = family_.call_close;
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

    // functionary's opening marker begins the call itself.
    std::vector<ToolCall> read_calls(const std::string& inside) const {
        const bool marker_counts = family_.tools == ToolStyle::kFunction;
        return parse_calls(family_.tools, marker_counts ? marker_ + inside : inside, texts_);
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
    TextParameters texts_;
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
