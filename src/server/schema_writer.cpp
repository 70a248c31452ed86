#include "server/schema_writer.h"

#include "server/number_range.h"
#include "server/pattern.h"
#include "server/schema_merge.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <format>

namespace hypura::server {
namespace {

constexpr int kDeepest = 64;
constexpr size_t kMostRuleBytes = size_t{2} << 20;
constexpr uint64_t kMostCount = 100000;  // of characters, items and members that a limit may name
constexpr size_t kMostSetValues = 8;     // each subset of them is a rule
constexpr size_t kMostMemberRules = 4000;

// At most one line break and some indentation: a model that is only held to a grammar could write blanks for ever.
// Escaped characters are never halves of a surrogate pair: such text would not be Unicode.
constexpr std::string_view kBasicRules = R"(ws ::= | " " | "\n" [ \t]{0,20}
char ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2}))
string ::= "\"" char* "\""
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?
boolean ::= "true" | "false"
null ::= "null"
value ::= object | array | string | number | boolean | null
object ::= "{" ws ("}" | member (ws "," ws member)* ws "}")
member ::= string ws ":" ws value
array ::= "[" ws ("]" | value (ws "," ws value)* ws "]")
)";

// Keywords that say which values fit and that a grammar cannot keep.
constexpr std::array<std::string_view, 16> kUnsupported = {"not",
                                                           "if",
                                                           "then",
                                                           "else",
                                                           "dependentRequired",
                                                           "dependentSchemas",
                                                           "dependencies",
                                                           "contains",
                                                           "minContains",
                                                           "maxContains",
                                                           "unevaluatedItems",
                                                           "unevaluatedProperties",
                                                           "$dynamicRef",
                                                           "$recursiveRef",
                                                           "extends",
                                                           "disallow"};

// Of the untyped schemas that have one of these, only the values are written that the keyword is about.
constexpr std::array<std::pair<std::string_view, std::string_view>, 24> kTypeOfKeyword = {{
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"},
    {"patternProperties", "object"},
    {"propertyNames", "object"},
    {"minProperties", "object"},
    {"maxProperties", "object"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"additionalItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"uniqueItems", "array"},
    {"pattern", "string"},
    {"format", "string"},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"minimum", "number"},
    {"maximum", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
    {"multipleOf", "number"},
    {"contentEncoding", "string"},
    {"contentMediaType", "string"},
}};

std::unexpected<ApiError> wrong_value(std::string_view key, std::string_view wanted) {
    return refuse(400, "JSON schema: \"{}\" must be {}", key, wanted);
}

// A count of characters, items or members. Larger ones than kMostCount are that: no text of a model is longer.
ApiResult<std::optional<uint64_t>> count(const Json& schema, std::string_view key) {
    const Json* number = find(schema, key);
    if (number == nullptr) return std::nullopt;
    if (!number->is_number() || number->get<double>() < 0) return wrong_value(key, "a number from 0 on");
    return static_cast<uint64_t>(std::min(number->get<double>(), static_cast<double>(kMostCount)));
}

struct Counts {
    uint64_t least = 0;
    std::optional<uint64_t> most;
};

ApiResult<Counts> counts(const Json& schema, std::string_view least, std::string_view most) {
    Counts counts;
    HYPURA_ASSIGN(const auto from, count(schema, least));
    HYPURA_ASSIGN(counts.most, count(schema, most));
    counts.least = from.value_or(0);
    if (counts.most && *counts.most < counts.least)
        return refuse(400, "JSON schema: \"{}\" is more than \"{}\"", least, most);
    return counts;
}

ApiResult<std::vector<std::string>> texts(const Json& schema, std::string_view key) {
    std::vector<std::string> list;
    const Json* value = find(schema, key);
    if (value == nullptr) return list;
    for (const Json& one : value->is_array() ? *value : Json::array({*value})) {
        if (!one.is_string()) return wrong_value(key, "a string");
        list.push_back(one.get<std::string>());
    }
    return list;
}

ApiStatus check_keywords(const Json& schema) {
    for (const auto& [key, value] : schema.items()) {
        if (std::ranges::find(kUnsupported, key) == kUnsupported.end()) continue;
        const bool harmless = key.starts_with("unevaluated") && value.is_boolean();  // nothing unnamed is written
        if (!harmless) return refuse(400, "JSON schema: \"{}\" is not supported: no grammar can keep it", key);
    }
    return {};
}

// ---- strings -------------------------------------------------------------------------------------------------------

// Hints for a form's input field, which allow any text.
bool is_hint(std::string_view format) {
    constexpr std::array<std::string_view, 7> kHints = {"password", "text",     "string", "textarea",
                                                        "binary",   "markdown", "html"};
    return std::ranges::find(kHints, format) != kHints.end();
}

ApiResult<std::vector<std::string>> patterns_of(const Json& schema) {
    HYPURA_ASSIGN(std::vector<std::string> patterns, texts(schema, "pattern"));
    HYPURA_ASSIGN(const std::vector<std::string> formats, texts(schema, "format"));
    const bool has_own = !patterns.empty();
    for (const std::string& format : formats) {
        if (const auto known = pattern_of_format(format))
            patterns.emplace_back(*known);
        else if (!has_own && !is_hint(format))  // formats of zod and others come with the pattern that they stand for
            return refuse(400, "JSON schema: the format \"{}\" is not known; known are {}; others need a \"pattern\"",
                          format, known_formats());
    }
    return patterns;
}

// Everything that `schema` asks of a string. Empty: any will do.
ApiResult<std::optional<TextAutomaton>> strings_of(const Json& schema, bool with_length) {
    HYPURA_ASSIGN(const std::vector<std::string> patterns, patterns_of(schema));
    HYPURA_ASSIGN(const Counts length, counts(schema, "minLength", "maxLength"));
    std::optional<TextAutomaton> whole;
    for (const std::string& pattern : patterns) {
        HYPURA_ASSIGN(TextAutomaton one, automaton_of_pattern(pattern));
        if (whole) {
            HYPURA_ASSIGN(one, intersection(*whole, one));
        }
        whole = std::move(one);
    }
    const bool bounded = length.least > 0 || length.most;
    if (bounded && (whole || with_length)) {
        HYPURA_ASSIGN(TextAutomaton lengths, texts_of_length(length.least, length.most));
        if (whole) {
            HYPURA_ASSIGN(lengths, intersection(*whole, lengths));
        }
        whole = std::move(lengths);
    }
    if (whole && whole->states.empty())
        return refuse(400, "JSON schema: no text fits the pattern, format and length together");
    return whole;
}

// ---- numbers -------------------------------------------------------------------------------------------------------

ApiResult<std::optional<Decimal>> decimal(const Json& schema, std::string_view key) {
    const Json* number = find(schema, key);
    if (number == nullptr || number->is_boolean()) return std::nullopt;
    if (!number->is_number()) return wrong_value(key, "a number");
    auto value = decimal_of(dump(*number));
    if (!value) return refuse(400, "JSON schema: \"{}\" has too many digits for a grammar", key);
    return value;
}

bool is_true(const Json& schema, std::string_view key) {
    const Json* value = find(schema, key);
    return value != nullptr && *value == true;
}

ApiStatus add_format_limits(const Json& schema, NumberRange& range) {
    HYPURA_ASSIGN(const auto formats, texts(schema, "format"));
    for (const std::string& format : formats) {
        if (format == "int32" && !range.least) range.least = decimal_of("-2147483648");
        if (format == "int32" && !range.most) range.most = decimal_of("2147483647");
        if ((format == "uint32" || format == "uint64" || format == "uint") && !range.least) range.least = Decimal{};
        if (format == "uint32" && !range.most) range.most = decimal_of("4294967295");
    }
    return {};
}

// Draft 4 and OpenAPI 3.0 write exclusiveMinimum as a boolean beside minimum.
ApiResult<NumberRange> range_of(const Json& schema, bool integer) {
    NumberRange range;
    range.integer = integer;
    HYPURA_ASSIGN(range.least, decimal(schema, "minimum"));
    HYPURA_ASSIGN(range.most, decimal(schema, "maximum"));
    HYPURA_ASSIGN(range.step, decimal(schema, "multipleOf"));
    HYPURA_ASSIGN(const auto above, decimal(schema, "exclusiveMinimum"));
    HYPURA_ASSIGN(const auto below, decimal(schema, "exclusiveMaximum"));
    const auto number = [&](std::string_view key) { return find(schema, key)->get<double>(); };
    range.least_excluded = is_true(schema, "exclusiveMinimum");
    range.most_excluded = is_true(schema, "exclusiveMaximum");
    if (above && (!range.least || number("exclusiveMinimum") >= number("minimum")))
        range.least = above, range.least_excluded = true;
    if (below && (!range.most || number("exclusiveMaximum") <= number("maximum")))
        range.most = below, range.most_excluded = true;
    HYPURA_TRY(add_format_limits(schema, range));
    return range;
}

bool is_unlimited(const NumberRange& range) { return !range.least && !range.most && !range.step; }

// ---- types ---------------------------------------------------------------------------------------------------------

std::optional<std::string_view> implied_type(const Json& schema) {
    for (const auto& [keyword, type] : kTypeOfKeyword)
        if (find(schema, keyword) != nullptr) return type;
    return std::nullopt;
}

bool has_type(const Json& value, std::string_view type) {
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "array") return value.is_array();
    if (type == "object") return value.is_object();
    if (type == "number") return value.is_number();
    return value.is_number_integer() || (value.is_number() && value.get<double>() == std::floor(value.get<double>()));
}

std::vector<std::string> listed_types(const Json& schema) {
    std::vector<std::string> types;
    const Json* type = find(schema, "type");
    if (type == nullptr) return types;
    for (const Json& one : type->is_array() ? *type : Json::array({*type}))
        types.push_back(one.is_string() ? one.get<std::string>() : dump(one));
    if (is_true(schema, "nullable") && std::ranges::find(types, "null") == types.end()) types.emplace_back("null");
    return types;
}

}  // namespace

// ---- GBNF ----------------------------------------------------------------------------------------------------------

std::string_view basic_json_rules() { return kBasicRules; }

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

std::string SchemaWriter::add(std::string name, const std::string& body) {
    rules_ += name + " ::= " + body + "\n";
    return name;
}

std::string SchemaWriter::next_name() { return std::format("{}{}", prefix_, count_++); }

// libllama writes an element with bounds out, once for each time, and refuses thousands: large counts go by hundreds.
// No text can be read in two ways, so nothing is slower for it.
std::string SchemaWriter::repeated(const std::string& element, uint64_t least, std::optional<uint64_t> most) {
    constexpr uint64_t kBlock = 100;
    const auto bounds = [](const std::string& what, uint64_t from, std::optional<uint64_t> to) {
        if (to == 0U) return std::string();
        if (from == 0 && !to) return what + "*";
        return to ? std::format("{}{{{},{}}}", what, from, *to) : std::format("{}{{{},}}", what, from);
    };
    if (most.value_or(least) <= 2 * kBlock) return bounds(element, least, most);
    const std::string block = add(next_name(), std::format("{}{{{},{}}}", element, kBlock, kBlock));
    std::string text =
        bounds(block, least / kBlock, least / kBlock) + " " + bounds(element, least % kBlock, least % kBlock);
    if (!most) return text + " " + element + "*";
    const uint64_t blocks = (*most - least) / kBlock, rest = (*most - least) % kBlock;
    if (blocks == 0) return text + " " + bounds(element, 0, rest);
    return text + " (" + bounds(block, 0, blocks - 1) + " " + bounds(element, 0, kBlock - 1) + " | " +
           bounds(block, blocks, blocks) + " " + bounds(element, 0, rest) + ")";
}

// ---- any schema ----------------------------------------------------------------------------------------------------

ApiResult<std::string> SchemaWriter::rule_for(const Json& schema) {
    if (rules_.size() > kMostRuleBytes) return refuse(400, "the JSON schema is too large for a grammar");
    // Types without limits have rules already.
    HYPURA_ASSIGN(const std::string body, body_of(schema));
    const bool is_rule = body.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
    return is_rule && !body.empty() ? body : add(next_name(), body);
}

ApiResult<std::string> SchemaWriter::body_of(Json schema) {
    if (schema == true) return std::string("value");
    if (schema == false) return refuse(400, "JSON schema: false allows no value, and one is wanted");
    if (!schema.is_object()) return refuse(400, "a JSON schema must be an object");
    if (depth_ >= kDeepest) return refuse(400, "the JSON schema is nested too deeply");
    ++depth_;
    const Json* path = find(schema, "$ref");
    const bool only_reference = path != nullptr && path->is_string() && implied_type(schema) == std::nullopt &&
                                std::ranges::none_of(std::array{"type", "enum", "const", "allOf", "anyOf", "oneOf"},
                                                     [&](const char* key) { return schema.contains(key); });
    Body body = only_reference ? reference(path->get<std::string>()) : body_without_references(std::move(schema));
    --depth_;
    return body;
}

// A reference's rule gets its name before its body is known: a schema may refer to itself.
ApiResult<std::string> SchemaWriter::reference(const std::string& path) {
    if (const auto known = references_.find(path); known != references_.end()) return known->second;
    HYPURA_ASSIGN(const Json* target, look_up_reference(document_, path));
    const Json* next = find(*target, "$ref");
    if (next != nullptr) {
        HYPURA_TRY(without_reference(document_, *target));  // refuses a circle of nothing but references
    }
    const std::string name = next_name();
    references_[path] = name;
    HYPURA_ASSIGN(const std::string body, body_of(*target));
    return add(name, body);
}

ApiResult<std::string> SchemaWriter::body_without_references(Json schema) {
    HYPURA_ASSIGN(schema, without_reference(document_, std::move(schema)));
    if (schema.is_boolean()) return body_of(schema);
    HYPURA_TRY(check_keywords(schema));
    if (find(schema, "allOf") != nullptr) return all_of(std::move(schema));
    for (const char* key : {"anyOf", "oneOf"})
        if (find(schema, key) != nullptr) return any_of(schema, key);
    if (schema.contains("const") || find(schema, "enum") != nullptr) return values(schema);
    const std::vector<std::string> types = listed_types(schema);
    if (types.size() == 1) return typed_body(types[0], schema);
    std::vector<Json> list;
    for (const std::string& type : types) {
        list.push_back(schema);
        list.back()["type"] = type;
        list.back().erase("nullable");
    }
    if (!list.empty()) return alternatives(list);
    const auto implied = implied_type(schema);
    return implied ? typed_body(std::string(*implied), schema) : Body("value");
}

ApiResult<std::string> SchemaWriter::all_of(Json schema) {
    const Json parts = schema["allOf"];
    schema.erase("allOf");
    if (!parts.is_array()) return wrong_value("allOf", "an array of schemas");
    for (const Json& part : parts) {
        HYPURA_ASSIGN(const Json resolved, without_reference(document_, part));
        HYPURA_ASSIGN(schema, both(schema, resolved));
    }
    return body_of(std::move(schema));
}

// What stands beside the alternatives holds for each of them.
ApiResult<std::string> SchemaWriter::any_of(const Json& schema, const std::string& key) {
    const Json& list = schema[key];
    if (!list.is_array() || list.empty()) return wrong_value(key, "an array with at least one schema");
    for (size_t i = 0; key == "oneOf" && i < list.size(); ++i)
        for (size_t j = 0; j < i; ++j)
            if (!exclude_each_other(document_, list[j], list[i]))
                return refuse(
                    400,
                    "JSON schema: alternatives {} and {} of oneOf may both fit, which no grammar can exclude; "
                    "say anyOf, or give each a constant of its own",
                    j + 1, i + 1);
    Json beside = schema;
    beside.erase(key);
    std::vector<Json> whole;
    for (const Json& alternative : list) {
        if (alternative == false) continue;
        const bool alone = !implied_type(beside) && listed_types(beside).empty() && !beside.contains("enum") &&
                           !beside.contains("const") && !beside.contains("anyOf") && !beside.contains("oneOf");
        if (alone) {
            whole.push_back(alternative);
            continue;
        }
        HYPURA_ASSIGN(const Json resolved, without_reference(document_, alternative));
        HYPURA_ASSIGN(Json merged, both(beside, resolved));
        whole.push_back(std::move(merged));
    }
    return alternatives(whole);
}

ApiResult<std::string> SchemaWriter::alternatives(const std::vector<Json>& schemas) {
    std::vector<std::string> names;
    for (const Json& schema : schemas) {
        HYPURA_ASSIGN(std::string name, rule_for(schema));
        if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
    }
    if (names.empty()) return refuse(400, "JSON schema: none of the alternatives allows a value");
    return joined_with(names, " | ");
}

// Of the values listed, those that fit what else is said.
ApiResult<std::string> SchemaWriter::values(const Json& schema) {
    std::vector<std::string> literals;
    const Json* list = find(schema, "enum");
    if (list != nullptr && !list->is_array()) return wrong_value("enum", "an array");
    const Json constant = schema.contains("const") ? Json::array({schema["const"]}) : Json(nullptr);
    for (const Json& value : constant.is_array() ? constant : *list) {
        const bool listed = list == nullptr || std::ranges::find(*list, value) != list->end();
        HYPURA_ASSIGN(const bool is_fit, fits(value, schema));
        if (listed && is_fit) literals.push_back(literal(dump(value)));
    }
    if (literals.empty()) return refuse(400, "JSON schema: no value of enum or const fits the rest of the schema");
    return joined_with(literals, " | ");
}

// Whether a value of enum or const fits its schema's other keywords. Members of arrays and objects are not looked at.
ApiResult<bool> SchemaWriter::fits(const Json& value, const Json& schema) const {
    const std::vector<std::string> types = listed_types(schema);
    if (!types.empty() && std::ranges::none_of(types, [&](const std::string& type) { return has_type(value, type); }))
        return false;
    if (value.is_string()) {
        HYPURA_ASSIGN(const auto strings, strings_of(schema, true));
        return !strings || strings->accepts(value.get<std::string>());
    }
    if (!value.is_number()) return true;
    HYPURA_ASSIGN(const NumberRange range, range_of(schema, false));
    if (is_unlimited(range)) return true;
    HYPURA_ASSIGN(const TextAutomaton numbers, numbers_within(range));
    return numbers.accepts(dump(value));
}

ApiResult<std::string> SchemaWriter::typed_body(const std::string& type, const Json& schema) {
    if (type == "object") return object_body(schema);
    if (type == "array") return array_body(schema);
    if (type == "string") return string_body(schema);
    if (type == "integer" || type == "number") return number_body(schema, type == "integer");
    if (type == "boolean" || type == "null") return type;
    if (type == "any") return std::string("value");
    return refuse(400, "JSON schema: there is no type \"{}\"", type);
}

ApiResult<std::string> SchemaWriter::string_body(const Json& schema) {
    HYPURA_ASSIGN(const auto strings, strings_of(schema, false));
    if (strings) {
        const std::string name = next_name();
        rules_ += rules_of(*strings, name, Writing::kJsonString);
        return "\"\\\"\" " + name;
    }
    HYPURA_ASSIGN(const Counts length, counts(schema, "minLength", "maxLength"));
    if (length.least == 0 && !length.most) return std::string("string");
    return "\"\\\"\" " + repeated("char", length.least, length.most) + " \"\\\"\"";
}

ApiResult<std::string> SchemaWriter::number_body(const Json& schema, bool integer) {
    HYPURA_ASSIGN(const NumberRange range, range_of(schema, integer));
    if (is_unlimited(range)) return std::string(integer ? "integer" : "number");
    HYPURA_ASSIGN(const TextAutomaton numbers, numbers_within(range));
    std::string name = next_name();
    rules_ += rules_of(numbers, name, Writing::kPlain);
    return name;
}

// ---- objects -------------------------------------------------------------------------------------------------------

struct SchemaWriter::Members {
    struct Member {
        std::string rule;  // "name": value
        bool required = false;
    };
    std::vector<Member> named;
    std::optional<std::string> others;  // rule for one member with any other name
    Counts counts;
};

// Named members in the schema's order, then others. A state is the next member and how many are written: the comma
// depends on whether there are any, minProperties and maxProperties on how many.
ApiResult<std::string> SchemaWriter::object_body(const Json& schema) {
    HYPURA_ASSIGN(const Members members, members_of(schema));
    const bool anything =
        members.named.empty() && members.others == "member" && members.counts.least == 0 && !members.counts.most;
    if (anything) return std::string("object");
    const uint64_t states = std::max<uint64_t>(1, members.counts.most.value_or(members.counts.least));
    const uint64_t most_written = std::min<uint64_t>(states, members.named.size());
    if ((most_written + 1) * members.named.size() > kMostMemberRules)
        return refuse(400,
                      "the JSON schema is too large for a grammar: {} properties with minProperties or maxProperties",
                      members.named.size());
    std::vector<std::string> next;  // by members written: the rule for what follows; empty: there is no way on
    for (uint64_t written = 0; written <= most_written; ++written) {
        HYPURA_ASSIGN(std::string end, object_end(members, written));
        next.push_back(end.empty() ? end : add(next_name(), end));
    }
    for (size_t i = members.named.size(); i-- > 0;) {
        const auto& [rule, required] = members.named[i];
        std::vector<std::string> here;
        for (uint64_t written = 0; written <= most_written; ++written) {
            std::vector<std::string> ways;
            const bool full = members.counts.most && written >= *members.counts.most;
            const std::string& behind = next[std::min(written + 1, most_written)];
            if (!full && !behind.empty())
                ways.push_back(std::format("ws {}{} {}", written > 0 ? "\",\" ws " : "", rule, behind));
            if (!required && !next[written].empty()) ways.push_back(next[written]);
            here.push_back(ways.empty() ? "" : add(next_name(), joined_with(ways, " | ")));
        }
        next = std::move(here);
    }
    if (next[0].empty()) return refuse(400, "JSON schema: no object has as many properties as it must");
    return "\"{\" " + next[0];
}

// What may follow the named members: others, and the brace.
ApiResult<std::string> SchemaWriter::object_end(const Members& members, uint64_t written) {
    const uint64_t least = members.counts.least > written ? members.counts.least - written : 0;
    const auto most = members.counts.most;
    if (!members.others || (most && *most <= written)) return least > 0 ? std::string() : std::string("ws \"}\"");
    // Two members of one name would count once.
    if (least > 1) return refuse(400, "JSON schema: minProperties asks for more properties than the schema names");
    const std::string& rule = *members.others;
    const auto rest = most ? std::optional(*most - written) : std::nullopt;
    if (written > 0) return repeated("(ws \",\" ws " + rule + ")", least, rest) + " ws \"}\"";
    const auto behind = rest ? std::optional(*rest - 1) : std::nullopt;
    const std::string some = "ws " + rule + " " + repeated("(ws \",\" ws " + rule + ")", 0, behind) + " ws \"}\"";
    return least > 0 ? some : "ws \"}\" | " + some;
}

ApiResult<SchemaWriter::Members> SchemaWriter::members_of(const Json& schema) {
    Members members;
    HYPURA_ASSIGN(members.counts, counts(schema, "minProperties", "maxProperties"));
    HYPURA_ASSIGN(const std::vector<std::string> required, texts(schema, "required"));
    const Json* given = find(schema, "properties");
    if (given != nullptr && !given->is_object()) return wrong_value("properties", "an object");
    Json properties = given == nullptr ? Json::object() : *given;
    const Json* more = find(schema, "additionalProperties");
    for (const std::string& name : required)
        if (!properties.contains(name)) properties[name] = more == nullptr ? Json(true) : *more;
    for (const auto& [name, property] : properties.items()) {
        const bool is_required = std::ranges::find(required, name) != required.end();
        if (property == false && !is_required) continue;
        if (property == false) return refuse(400, "JSON schema: the property \"{}\" is required and not allowed", name);
        HYPURA_ASSIGN(const std::string value, rule_for(property));
        members.named.push_back({add(next_name(), literal(dump(Json(name))) + " ws \":\" ws " + value), is_required});
    }
    HYPURA_ASSIGN(members.others, extra_members(schema));
    return members;
}

// Members that "properties" does not name. A list of properties, even an empty one, is taken for all there are, unless
// more are allowed in so many words.
ApiResult<std::optional<std::string>> SchemaWriter::extra_members(const Json& schema) {
    const Json* more = find(schema, "additionalProperties");
    const Json* patterns = find(schema, "patternProperties");
    const bool others = more != nullptr ? *more != false : patterns == nullptr && find(schema, "properties") == nullptr;
    if (!others && patterns == nullptr) return std::nullopt;
    if (patterns != nullptr && !patterns->is_object()) return wrong_value("patternProperties", "an object");
    HYPURA_ASSIGN(Names names, names_of_others(schema));
    std::vector<std::string> rules;
    if (patterns != nullptr) {
        HYPURA_ASSIGN(rules, pattern_members(*patterns, names));
    }
    if (others && !names.texts.states.empty()) {
        HYPURA_ASSIGN(std::string rule, extra_member(names, more == nullptr ? Json(true) : *more));
        rules.push_back(std::move(rule));
    }
    if (rules.empty()) return std::nullopt;
    return rules.size() == 1 ? rules[0] : add(next_name(), joined_with(rules, " | "));
}

// Whatever is not a name of its own, and what propertyNames allows.
ApiResult<SchemaWriter::Names> SchemaWriter::names_of_others(const Json& schema) const {
    HYPURA_ASSIGN(std::vector<std::string> taken, texts(schema, "required"));
    if (const Json* properties = find(schema, "properties"))
        for (const auto& [name, property] : properties->items()) taken.push_back(name);
    Names names{.any = taken.empty()};
    HYPURA_ASSIGN(const TextAutomaton own, exactly(taken));
    HYPURA_ASSIGN(names.texts, complement(own));
    const Json* allowed = find(schema, "propertyNames");
    if (allowed == nullptr || *allowed == true) return names;
    HYPURA_ASSIGN(const Json rule, without_reference(document_, *allowed));
    const bool simple = rule.is_object() && std::ranges::none_of(std::array{"anyOf", "oneOf", "allOf", "not"},
                                                                 [&](const char* key) { return rule.contains(key); });
    if (!simple) return refuse(400, "JSON schema: propertyNames must be a simple schema of strings");
    HYPURA_ASSIGN(std::optional<TextAutomaton> strings, strings_of(rule, true));
    if (rule.contains("enum") || rule.contains("const")) {
        HYPURA_ASSIGN(const auto listed, texts(rule, rule.contains("enum") ? "enum" : "const"));
        HYPURA_ASSIGN(TextAutomaton some, exactly(listed));
        if (strings) {
            HYPURA_ASSIGN(some, intersection(some, *strings));
        }
        strings = std::move(some);
    }
    if (!strings) return names;
    names.any = false;
    HYPURA_ASSIGN(names.texts, intersection(names.texts, *strings));
    return names;
}

// One rule for each pattern that some name matches; `names` is left with those that match none.
ApiResult<std::vector<std::string>> SchemaWriter::pattern_members(const Json& patterns, Names& names) {
    std::vector<std::string> rules;
    const TextAutomaton all = names.texts;
    names.any = false;
    std::vector<TextAutomaton> earlier;
    for (const auto& [pattern, value] : patterns.items()) {
        HYPURA_ASSIGN(TextAutomaton matching, automaton_of_pattern(pattern));
        for (const TextAutomaton& other : earlier) {
            HYPURA_ASSIGN(const TextAutomaton common, intersection(other, matching));
            if (!common.states.empty())
                return refuse(400, "JSON schema: a name may match two patterns of patternProperties");
        }
        HYPURA_ASSIGN(const TextAutomaton not_matching, complement(matching));
        HYPURA_ASSIGN(names.texts, intersection(names.texts, not_matching));
        HYPURA_ASSIGN(TextAutomaton named, intersection(all, matching));
        earlier.push_back(std::move(matching));
        if (named.states.empty() || value == false) continue;
        HYPURA_ASSIGN(std::string rule, extra_member({std::move(named), false}, value));
        rules.push_back(std::move(rule));
    }
    return rules;
}

ApiResult<std::string> SchemaWriter::extra_member(const Names& names, const Json& value) {
    HYPURA_ASSIGN(const std::string value_rule, rule_for(value));
    if (names.any && value_rule == "value") return std::string("member");
    std::string key = "string";
    if (!names.any) {
        key = next_name();
        rules_ += rules_of(names.texts, key, Writing::kJsonString);
        key = "\"\\\"\" " + key;
    }
    return add(next_name(), key + " ws \":\" ws " + value_rule);
}

// ---- arrays --------------------------------------------------------------------------------------------------------

// The rules of the items at the beginning that have schemas of their own; `more`: the rule of those behind them.
ApiResult<std::vector<std::string>> SchemaWriter::item_rules(const Json& schema, std::optional<std::string>& more) {
    const Json* items = find(schema, "items");
    const Json* first = find(schema, "prefixItems");
    const bool old_form = items != nullptr && items->is_array();  // until draft 2019
    if (old_form) first = items, items = find(schema, "additionalItems");
    if (first != nullptr && !first->is_array()) return wrong_value("prefixItems", "an array");
    std::vector<std::string> rules;
    for (const Json& item : first == nullptr ? Json::array() : *first) {
        HYPURA_ASSIGN(std::string rule, rule_for(item));
        rules.push_back(std::move(rule));
    }
    more = std::nullopt;
    if (items != nullptr && *items != false) {
        HYPURA_ASSIGN(more, rule_for(*items));
    } else if (items == nullptr) {
        more.emplace("value");
    }
    return rules;
}

ApiResult<std::string> SchemaWriter::array_body(const Json& schema) {
    HYPURA_ASSIGN(const Counts length, counts(schema, "minItems", "maxItems"));
    if (is_true(schema, "uniqueItems") && length.most.value_or(2) > 1) return unique_items(schema);
    std::optional<std::string> more;
    HYPURA_ASSIGN(std::vector<std::string> first, item_rules(schema, more));
    if (length.most && first.size() > *length.most) first.resize(*length.most);
    const uint64_t named = first.size();
    if (named < length.least && !more)
        return refuse(400, "JSON schema: minItems asks for more items than the schema allows");
    const uint64_t least = length.least > named ? length.least - named : 0;
    std::optional<uint64_t> most = length.most ? std::optional(*length.most - named) : std::nullopt;
    // Items behind those that are named one by one are written only where they are asked for: they may be anything.
    if (!more || (named > 0 && find(schema, "items") == nullptr)) most = least;
    return list_body(first, more.value_or("value"), least, most);
}

// `first`, then from `least` to `most` of `item`.
std::string SchemaWriter::list_body(const std::vector<std::string>& first, const std::string& item, uint64_t least,
                                    std::optional<uint64_t> most) {
    constexpr std::string_view kBegin = "\"[\" ws ", kEnd = " ws \"]\"";
    const std::string next = "(ws \",\" ws " + item + ")";
    if (!first.empty()) {
        const std::string rest = most == 0U ? "" : " " + repeated(next, least, most);
        return std::string(kBegin) + joined_with(first, " ws \",\" ws ") + rest + std::string(kEnd);
    }
    if (most == 0U) return "\"[\" ws \"]\"";
    const auto behind = most ? std::optional(*most - 1) : std::nullopt;
    const std::string filled = item + " " + repeated(next, least == 0 ? 0 : least - 1, behind) + std::string(kEnd);
    return std::string(kBegin) + (least == 0 ? "(\"]\" | " + filled + ")" : filled);
}

ApiResult<std::string> SchemaWriter::unique_items(const Json& schema) {
    const Json* items = find(schema, "items");
    HYPURA_ASSIGN(const Json item, without_reference(document_, items == nullptr ? Json(true) : *items));
    const Json* list = find(item, "enum");
    const bool small = list != nullptr && list->is_array() && list->size() <= kMostSetValues;
    if (!small || find(schema, "prefixItems") != nullptr)
        return refuse(400, "JSON schema: uniqueItems is not supported but for items of an enum of at most {} values",
                      kMostSetValues);
    return set_body(schema, item, {list->begin(), list->end()});
}

// Different values out of a short list: one rule for each set of those that are written already.
ApiResult<std::string> SchemaWriter::set_body(const Json& schema, const Json& item, const std::vector<Json>& choices) {
    HYPURA_ASSIGN(const Counts length, counts(schema, "minItems", "maxItems"));
    std::vector<std::string> literals;
    for (const Json& choice : choices) {
        HYPURA_ASSIGN(const bool is_fit, fits(choice, item));
        const std::string text = literal(dump(choice));
        if (is_fit && std::ranges::find(literals, text) == literals.end()) literals.push_back(text);
    }
    if (length.least > literals.size())
        return refuse(400, "JSON schema: minItems asks for more items than the enum has");
    const std::string name = next_name();
    for (uint32_t written = 0; written < (1U << literals.size()); ++written) {
        const auto size = static_cast<uint64_t>(std::popcount(written));
        std::vector<std::string> ways;
        if (size >= length.least) ways.emplace_back("ws \"]\"");
        for (uint32_t i = 0; i < literals.size(); ++i)
            if ((written >> i & 1U) == 0 && (!length.most || size < *length.most))
                ways.push_back(std::format("{} {} {}-{}", written == 0 ? "ws" : "ws \",\" ws", literals[i], name,
                                           written | (1U << i)));
        add(std::format("{}-{}", name, written), ways.empty() ? "ws \"]\"" : joined_with(ways, " | "));
    }
    return std::format("\"[\" {}-0", name);
}

}  // namespace hypura::server
