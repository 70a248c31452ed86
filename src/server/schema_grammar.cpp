#include "server/schema_grammar.h"

#include "server/json.h"
#include "server/schema_writer.h"

#include <format>

namespace hypura::server {
namespace {

// ---- tool calls ----------------------------------------------------------------------------------------------------

struct CallNotation {
    std::string before_name, between, after;  // around the name and the arguments
    std::string separator;                    // between two calls
    std::string before_all, after_all;
};

CallNotation notation_of(const TemplateFamily& family) {
    const std::string &open = family.call_open, &close = family.call_close;
    switch (family.tools) {
        case ToolStyle::kLlama:
            return {"{\"name\": \"", "\", \"parameters\": ", "}", "; ", "", ""};
        case ToolStyle::kFunction:
            return {"<function=", ">", "</function>", "\n", "", ""};
        case ToolStyle::kHarmony:
            return {"<|channel|>commentary to=functions.", " <|constrain|>json<|message|>", "<|call|>", "", "", ""};
        case ToolStyle::kDeepSeek:
            return {"<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "", open, close};
        case ToolStyle::kKimi:
            return {"<|tool_call_begin|>functions.",
                    ":0<|tool_call_argument_begin|>",
                    "<|tool_call_end|>",
                    "",
                    open,
                    close};
        case ToolStyle::kMistral:
        case ToolStyle::kJsonList:
            return {"{\"name\": \"", "\", \"arguments\": ", "}", ", ", open + "[", "]" + close};
        case ToolStyle::kInvoke:  // MiniMax's own notation has no quotation marks: not for a grammar of JSON
        case ToolStyle::kHermes:
        case ToolStyle::kNone:
            break;
    }
    return {open + "\n{\"name\": \"", "\", \"arguments\": ", "}\n" + close, "\n", "", ""};
}

// These number their calls, or end with the first.
bool takes_one_call(ToolStyle style) { return style == ToolStyle::kHarmony || style == ToolStyle::kKimi; }

ApiResult<std::string> one_call(const CallNotation& notation, const Tool& tool, size_t number, std::string& rules) {
    const Json schema = try_parse(tool.parameters).value_or(Json::object());
    const Json object = schema.is_object() && !schema.empty() ? schema : Json({{"type", "object"}});
    SchemaWriter writer(object, std::format("t{}-", number));
    HYPURA_ASSIGN(const std::string arguments, writer.rule_for(object));
    rules += writer.rules();
    return literal(notation.before_name + tool.name + notation.between) + " " + arguments + " " +
           literal(notation.after);
}

}  // namespace

ApiResult<std::string> grammar_of_schema(const std::string& schema_json) {
    const auto schema = try_parse(schema_json);
    if (!schema) return refuse(400, "the JSON schema is not JSON");
    SchemaWriter writer(*schema, "r");
    HYPURA_ASSIGN(const std::string root, writer.rule_for(*schema));
    return "root ::= " + root + "\n" + writer.rules() + std::string(basic_json_rules());
}

std::string grammar_of_json_object() { return "root ::= object\n" + std::string(basic_json_rules()); }

ApiResult<std::string> grammar_of_tool_calls(const TemplateFamily& family, const std::vector<Tool>& tools,
                                             const std::string& only, bool parallel) {
    const CallNotation notation = notation_of(family);
    std::string rules;
    std::vector<std::string> calls;
    for (size_t i = 0; i < tools.size(); ++i) {
        if (!only.empty() && tools[i].name != only) continue;
        HYPURA_ASSIGN(std::string call, one_call(notation, tools[i], i, rules));
        calls.push_back(std::move(call));
    }
    if (calls.empty()) return refuse(400, "tool_choice: there is no tool \"{}\"", only);
    constexpr int kMostCalls = 8;
    const bool several = parallel && only.empty() && !takes_one_call(family.tools);
    const std::string more =
        several ? std::format(" ({} call){{0,{}}}", literal(notation.separator), kMostCalls - 1) : std::string();
    const std::string before = notation.before_all.empty() ? "" : literal(notation.before_all) + " ";
    const std::string after = notation.after_all.empty() ? "" : " " + literal(notation.after_all);
    return "root ::= " + before + "call" + more + after + "\ncall ::= " + joined_with(calls, " | ") + "\n" + rules +
           std::string(basic_json_rules());
}

// Rules for free text up to and with `close`, character by character. What looked like the closing tag and was not may
// be followed by the real one at once ("</thin</think>"): "near" begins anew at the tag's first character.
static std::string rules_of_thought(std::string_view close) {
    const auto class_without = [](std::initializer_list<char> characters) {
        std::string text = "[^";
        for (const char c : characters)
            text += c == ']' || c == '[' || c == '\\' ? std::string("\\") + c : std::string(1, c);
        return text + "]";
    };
    std::string near = literal(close);
    for (size_t i = 1; i < close.size(); ++i)
        near += " | " + literal(close.substr(0, i)) + " (" + class_without({close[i], close[0]}) + " thought | near)";
    return "thought ::= " + class_without({close[0]}) + " thought | near\nnear ::= " + near + "\n";
}

std::string allow_thinking(std::string grammar, const TemplateFamily& family, bool begins_thinking) {
    if (!family.thinks || family.think_close.empty()) return grammar;
    const std::string root = "root ::= ";
    grammar.replace(0, root.size(), "answer ::= ");
    const std::string gap = " [ \\t\\r\\n]{0,4} answer\n";
    const std::string head =
        begins_thinking ? root + "thought" + gap : root + "answer | " + literal(family.think_open) + " thought" + gap;
    return head + rules_of_thought(family.think_close) + grammar;
}

}  // namespace hypura::server
