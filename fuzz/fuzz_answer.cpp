// Feeds arbitrary answers of a model to the parser that takes them apart. The first three bytes choose the model's
// family and how the text is cut. However it is cut, the same parts come out; and without markers, the text comes out
// as it is.
#include "base/check.h"
#include "server/answer_parser.h"

#include <cstddef>
#include <cstdint>
#include <iterator>

namespace {

using namespace hypura::server;

struct Joined {
    std::string thinking, text;
    std::vector<ToolCall> calls;

    void add(const std::vector<AnswerPart>& parts) {
        for (const AnswerPart& part : parts) {
            if (const auto* thought = std::get_if<ThinkingPart>(&part)) thinking += thought->text;
            if (const auto* words = std::get_if<TextPart>(&part)) text += words->text;
            if (const auto* call = std::get_if<ToolCall>(&part)) calls.push_back(*call);
        }
    }
};

Joined parsed(const AnswerParserOptions& options, std::string_view text, size_t piece) {
    const auto parser = make_answer_parser(options);
    Joined joined;
    for (size_t at = 0; at < text.size(); at += piece) joined.add(parser->push(text.substr(at, piece)));
    joined.add(parser->finish());
    return joined;
}

// What the templates of the known families have in them.
constexpr const char* kTemplates[] = {
    "",
    "<think> </think> <tool_call> tools",
    "tools [TOOL_CALLS] [AVAILABLE_TOOLS]",
    "tools <|python_tag|> ipython",
    "tools <function=",
    "<|channel|>analysis <|start|> tools <|call|>",
    "tools <｜tool▁calls▁begin｜> <think> </think>",
    "tools <|tool_calls_section_begin|>",
    "tools <minimax:tool_call>",
    "tools <|START_ACTION|> <|END_THINKING|>",
};

bool same(const Joined& a, const Joined& b) {
    if (a.thinking != b.thinking || a.text != b.text || a.calls.size() != b.calls.size()) return false;
    for (size_t i = 0; i < a.calls.size(); ++i)
        if (a.calls[i].name != b.calls[i].name || a.calls[i].arguments != b.calls[i].arguments) return false;
    return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 3) return 0;
    AnswerParserOptions options;
    options.family = template_family(kTemplates[data[0] % std::size(kTemplates)]);
    options.begins_thinking = options.family.thinks && (data[1] & 1) != 0;
    if ((data[1] & 2) != 0) options.tool_names = {"f", "get_weather"};
    if ((data[1] & 4) != 0) options.text_parameters["f"] = {"a"};
    const std::string_view text(reinterpret_cast<const char*>(data + 3), size - 3);
    const Joined whole = parsed(options, text, std::max<size_t>(text.size(), 1));
    HYPURA_CHECK(same(whole, parsed(options, text, 1)));
    HYPURA_CHECK(same(whole, parsed(options, text, 1 + data[2] % 16)));
    const bool knows_markers = options.family.thinks || options.family.tools != ToolStyle::kNone;
    HYPURA_CHECK(knows_markers || whole.text == text);
    return 0;
}
