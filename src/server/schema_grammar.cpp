#include "server/schema_grammar.h"

#include "server/json.h"

#include <algorithm>
#include <array>
#include <format>
#include <map>

namespace hypura::server {
namespace {

// At most one line break and some indentation: a model that is only held to a grammar could write blanks for ever.
constexpr std::string_view kBasicRules = R"(ws ::= | " " | "\n" [ \t]{0,20}
char ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
string ::= "\"" char* "\""
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?
boolean ::= "true" | "false"
null ::= "null"
value ::= object | array | string | number | boolean | null
object ::= "{" ws ("}" | member (ws "," ws member)* ws "}")
member ::= string ws ":" ws value
array ::= "[" ws ("]" | value (ws "," ws value)* ws "]")
)";

// Text as a GBNF literal.
std::string literal(std::string_view text) {
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') quoted += '\\';
        if (c == '\n')
            quoted += "\\n";
        else if (c == '\r')
            quoted += "\\r";
        else if (c == '\t')
            quoted += "\\t";
        else
            quoted += c;
    }
    return quoted + '"';
}

std::string joined_with(const std::vector<std::string>& parts, std::string_view separator) {
    std::string text;
    for (const std::string& part : parts) text += (text.empty() ? "" : std::string(separator)) + part;
    return text;
}

uint64_t bounded(const Json* number, uint64_t otherwise) {
    constexpr int64_t kMost = 100000;
    if (number == nullptr || !number->is_number()) return otherwise;
    return static_cast<uint64_t>(std::clamp<int64_t>(number->get<int64_t>(), 0, kMost));
}

// "{2,}", "{0,5}", "" for exactly any.
std::string repetition(uint64_t least, std::optional<uint64_t> most) {
    if (least == 0 && !most) return "*";
    return most ? std::format("{{{},{}}}", least, *most) : std::format("{{{},}}", least);
}

// Writes one rule a schema. Sub-schemas become rules of their own, so that nothing is written twice and references may
// go round in circles.
class SchemaWriter {
public:
    // `prefix`: of all rule names, so that several writers may share a grammar.
    SchemaWriter(const Json& document, std::string prefix) : document_(document), prefix_(std::move(prefix)) {}

    // The name of the rule for `schema`.
    ApiResult<std::string> rule_for(const Json& schema);
    const std::string& rules() const { return rules_; }

private:
    ApiResult<std::string> body_of(const Json& schema);
    ApiResult<std::string> body_of_type(const std::string& type, const Json& schema);
    ApiResult<std::string> object_body(const Json& schema);
    ApiResult<std::string> array_body(const Json& schema);
    ApiResult<std::string> alternatives(const Json& list);
    ApiResult<std::string> reference(const std::string& path);
    ApiResult<Json> merged(const Json& schema);
    ApiResult<const Json*> look_up(const std::string& path) const;

    std::string add(std::string name, const std::string& body) {
        rules_ += name + " ::= " + body + "\n";
        return name;
    }
    std::string next_name() { return std::format("{}{}", prefix_, count_++); }

    static constexpr int kDeepest = 64;
    const Json& document_;
    std::string prefix_;
    std::string rules_;
    std::map<std::string, std::string> references_;  // path -> rule
    int count_ = 0;
    int depth_ = 0;
};

ApiResult<std::string> SchemaWriter::rule_for(const Json& schema) {
    if (depth_ >= kDeepest) return refuse(400, "the JSON schema is nested too deeply");
    const std::string name = next_name();
    ++depth_;
    HYPURA_ASSIGN(const std::string body, body_of(schema));
    --depth_;
    return add(name, body);
}

ApiResult<std::string> SchemaWriter::body_of(const Json& schema) {
    if (schema.is_boolean()) return std::string("value");
    if (!schema.is_object()) return refuse(400, "a JSON schema must be an object");
    if (const Json* path = find(schema, "$ref"); path != nullptr && path->is_string())
        return reference(path->get<std::string>());
    if (schema.contains("const")) return literal(dump(schema["const"]));
    if (const Json* values = find(schema, "enum"); values != nullptr && values->is_array()) {
        std::vector<std::string> literals;
        for (const Json& value : *values) literals.push_back(literal(dump(value)));
        return joined_with(literals, " | ");
    }
    for (const char* key : {"anyOf", "oneOf"})
        if (const Json* list = find(schema, key)) return alternatives(*list);
    if (find(schema, "allOf") != nullptr) {
        HYPURA_ASSIGN(const Json whole, merged(schema));
        return body_of(whole);
    }
    const Json* type = find(schema, "type");
    if (type != nullptr && type->is_array()) {
        Json list = Json::array();
        for (const Json& one : *type) {
            list.push_back(schema);
            list.back()["type"] = one;
        }
        return alternatives(list);
    }
    if (type != nullptr && type->is_string()) return body_of_type(type->get<std::string>(), schema);
    if (find(schema, "properties") != nullptr) return object_body(schema);
    if (find(schema, "items") != nullptr || find(schema, "prefixItems") != nullptr) return array_body(schema);
    return std::string("value");
}

ApiResult<std::string> SchemaWriter::body_of_type(const std::string& type, const Json& schema) {
    if (type == "object") return object_body(schema);
    if (type == "array") return array_body(schema);
    if (type == "string") {
        const Json* least = find(schema, "minLength");
        const Json* most = find(schema, "maxLength");
        if (least == nullptr && most == nullptr) return std::string("string");
        return "\"\\\"\" char" +
               repetition(bounded(least, 0), most == nullptr ? std::nullopt : std::optional(bounded(most, 0))) +
               " \"\\\"\"";
    }
    if (type == "integer" || type == "number" || type == "boolean" || type == "null") return type;
    return refuse(400, "JSON schema: there is no type \"{}\"", type);
}

ApiResult<std::string> SchemaWriter::alternatives(const Json& list) {
    if (!list.is_array() || list.empty()) return refuse(400, "JSON schema: anyOf needs at least one schema");
    std::vector<std::string> names;
    for (const Json& schema : list) {
        HYPURA_ASSIGN(std::string name, rule_for(schema));
        names.push_back(std::move(name));
    }
    return joined_with(names, " | ");
}

// A reference's rule gets its name before its body is known: a schema may refer to itself.
ApiResult<std::string> SchemaWriter::reference(const std::string& path) {
    if (const auto known = references_.find(path); known != references_.end()) return known->second;
    HYPURA_ASSIGN(const Json* target, look_up(path));
    const std::string name = next_name();
    references_[path] = name;
    HYPURA_ASSIGN(const std::string body, body_of(*target));
    return add(name, body);
}

ApiResult<const Json*> SchemaWriter::look_up(const std::string& path) const {
    const Json* at = &document_;
    if (path != "#" && !path.starts_with("#/")) return refuse(400, "JSON schema: $ref \"{}\" points elsewhere", path);
    for (size_t begin = 2; begin < path.size();) {
        const size_t end = std::min(path.find('/', begin), path.size());
        at = find(*at, path.substr(begin, end - begin));
        if (at == nullptr) return refuse(400, "JSON schema: $ref \"{}\" leads nowhere", path);
        begin = end + 1;
    }
    return at;
}

// allOf: the properties and requirements of all.
ApiResult<Json> SchemaWriter::merged(const Json& schema) {
    Json whole = schema;
    whole.erase("allOf");
    for (const Json& part : schema["allOf"]) {
        const Json* resolved = &part;
        if (const Json* path = find(part, "$ref"); path != nullptr && path->is_string()) {
            HYPURA_ASSIGN(resolved, look_up(path->get<std::string>()));
        }
        if (!resolved->is_object()) return refuse(400, "JSON schema: allOf needs an array of schemas");
        for (const auto& [key, value] : resolved->items()) {
            if (key == "properties" && whole.contains(key)) {
                whole[key].update(value);
            } else if (key == "required" && whole.contains(key)) {
                for (const Json& name : value) whole[key].push_back(name);
            } else {
                whole[key] = value;
            }
        }
    }
    return whole;
}

bool is_required(const Json& schema, const std::string& name) {
    const Json* required = find(schema, "required");
    return required != nullptr && required->is_array() && std::ranges::find(*required, Json(name)) != required->end();
}

// Required members in order; behind each of them, and in front of the first, optional ones may stand. A chain of rules
// keeps commas right: "tail i" is what may follow once something was written and members from i on are still to come.
ApiResult<std::string> SchemaWriter::object_body(const Json& schema) {
    const Json* properties = find(schema, "properties");
    if (properties == nullptr || !properties->is_object() || properties->empty()) {
        const Json* more = find(schema, "additionalProperties");
        // A list of properties that is empty is how tools say that they take none.
        const bool none = more == nullptr ? properties != nullptr : *more == false;
        if (none) return std::string("\"{\" ws \"}\"");
        if (more == nullptr || more->is_boolean()) return std::string("object");
        HYPURA_ASSIGN(const std::string value, rule_for(*more));
        const std::string pair = "string ws \":\" ws " + value;
        return "\"{\" ws (\"}\" | " + pair + " (ws \",\" ws " + pair + ")* ws \"}\")";
    }
    struct Member {
        std::string rule;
        bool required;
    };
    std::vector<Member> members;
    for (const auto& [name, property] : properties->items()) {
        HYPURA_ASSIGN(const std::string value, rule_for(property));
        const std::string rule = add(next_name(), literal(dump(Json(name))) + " ws \":\" ws " + value);
        members.push_back({rule, is_required(schema, name)});
    }
    std::string tail = "ws \"}\"";   // something stands before
    std::string first = "ws \"}\"";  // nothing does
    for (size_t i = members.size(); i-- > 0;) {
        const auto& [rule, required] = members[i];
        const std::string tail_rule = add(next_name(), tail);
        const std::string first_rule = required ? std::string() : add(next_name(), first);
        tail = std::format("ws \",\" ws {} {}", rule, tail_rule);
        first = std::format("ws {} {}", rule, tail_rule);
        if (required) continue;
        tail += " | " + tail_rule;
        first += " | " + first_rule;
    }
    return "\"{\" " + add(next_name(), first);
}

ApiResult<std::string> SchemaWriter::array_body(const Json& schema) {
    const Json* prefix = find(schema, "prefixItems");
    if (prefix != nullptr && prefix->is_array()) {
        std::vector<std::string> names;
        for (const Json& item : *prefix) {
            HYPURA_ASSIGN(std::string name, rule_for(item));
            names.push_back(std::move(name));
        }
        return "\"[\" ws " + joined_with(names, " ws \",\" ws ") + " ws \"]\"";
    }
    const Json* items = find(schema, "items");
    std::string item = "value";
    if (items != nullptr) {
        HYPURA_ASSIGN(item, rule_for(*items));
    }
    const uint64_t least = bounded(find(schema, "minItems"), 0);
    const Json* most = find(schema, "maxItems");
    if (most != nullptr && bounded(most, 0) == 0) return std::string("\"[\" ws \"]\"");
    const std::string more =
        "(ws \",\" ws " + item + ")" +
        repetition(least == 0 ? 0 : least - 1, most == nullptr ? std::nullopt : std::optional(bounded(most, 1) - 1));
    const std::string filled = item + " " + more + " ws \"]\"";
    return "\"[\" ws " + (least == 0 ? "(\"]\" | " + filled + ")" : filled);
}

// ---- tool calls ----------------------------------------------------------------------------------------------------

struct CallNotation {
    std::string before_name, between, after;  // around the name and the arguments
    std::string separator;                    // between two calls
    std::string before_all, after_all;
};

CallNotation notation_of(ToolStyle style) {
    switch (style) {
        case ToolStyle::kMistral:
            return {"{\"name\": \"", "\", \"arguments\": ", "}", ", ", "[TOOL_CALLS][", "]"};
        case ToolStyle::kLlama:
            return {"{\"name\": \"", "\", \"parameters\": ", "}", "; ", "", ""};
        case ToolStyle::kFunction:
            return {"<function=", ">", "</function>", "\n", "", ""};
        case ToolStyle::kHarmony:
            return {"<|channel|>commentary to=functions.", " <|constrain|>json<|message|>", "<|call|>", "", "", ""};
        case ToolStyle::kHermes:
        case ToolStyle::kNone:
            break;
    }
    return {"<tool_call>\n{\"name\": \"", "\", \"arguments\": ", "}\n</tool_call>", "\n", "", ""};
}

ApiResult<std::string> one_call(const CallNotation& notation, const Tool& tool, size_t number, std::string& rules) {
    const Json schema = try_parse(tool.parameters).value_or(Json::object());
    SchemaWriter writer(schema, std::format("t{}-", number));
    const Json object = schema.is_object() && !schema.empty() ? schema : Json({{"type", "object"}});
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
    return "root ::= " + root + "\n" + writer.rules() + std::string(kBasicRules);
}

std::string grammar_of_json_object() { return "root ::= object\n" + std::string(kBasicRules); }

ApiResult<std::string> grammar_of_tool_calls(ToolStyle style, const std::vector<Tool>& tools, const std::string& only,
                                             bool parallel) {
    const CallNotation notation = notation_of(style);
    std::string rules;
    std::vector<std::string> calls;
    for (size_t i = 0; i < tools.size(); ++i) {
        if (!only.empty() && tools[i].name != only) continue;
        HYPURA_ASSIGN(std::string call, one_call(notation, tools[i], i, rules));
        calls.push_back(std::move(call));
    }
    if (calls.empty()) return refuse(400, "tool_choice: there is no tool \"{}\"", only);
    constexpr int kMostCalls = 8;
    const bool several = parallel && only.empty() && style != ToolStyle::kHarmony;
    const std::string more =
        several ? std::format(" ({} call){{0,{}}}", literal(notation.separator), kMostCalls - 1) : std::string();
    const std::string before = notation.before_all.empty() ? "" : literal(notation.before_all) + " ";
    const std::string after = notation.after_all.empty() ? "" : " " + literal(notation.after_all);
    return "root ::= " + before + "call" + more + after + "\ncall ::= " + joined_with(calls, " | ") + "\n" + rules +
           std::string(kBasicRules);
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
