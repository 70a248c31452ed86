// Takes apart what a model writes, piece by piece: thinking, text for the user, tool calls.
//
// Text comes in pieces that may end anywhere, also inside a marker; what may still become one is held back. However the
// text is cut, the parts that come out, joined, are the same.
#pragma once

#include "server/request.h"
#include "server/template_family.h"
#include "server/tool_calls.h"

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace hypura::server {

struct ThinkingPart {
    std::string text;
};
struct TextPart {
    std::string text;
};
using AnswerPart = std::variant<ThinkingPart, TextPart, ToolCall>;  // a ToolCall's id is empty if the model gave none

struct AnswerParserOptions {
    TemplateFamily family;
    bool begins_thinking = false;      // the prompt ended inside an open thinking block
    std::set<std::string> tool_names;  // of the request; empty: nothing is taken for a tool call
    TextParameters text_parameters;    // of these tools
};

class AnswerParser {
public:
    virtual ~AnswerParser() = default;
    virtual std::vector<AnswerPart> push(std::string_view text) = 0;
    // The end of the answer: what was held back. An unfinished tool call that cannot be read is text.
    virtual std::vector<AnswerPart> finish() = 0;
};

std::unique_ptr<AnswerParser> make_answer_parser(const AnswerParserOptions& options);

}  // namespace hypura::server
