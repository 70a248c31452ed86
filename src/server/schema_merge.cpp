#include "server/schema_merge.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

namespace hypura::server {
namespace {

constexpr int kDeepest = 16;  // of looking into properties for a difference

template <size_t N>
bool is_one_of(const std::string& word, const std::array<std::string_view, N>& list) {
    return std::ranges::find(list, word) != list.end();
}

constexpr std::array<std::string_view, 5> kLowerLimits = {"minimum", "exclusiveMinimum", "minLength", "minItems",
                                                          "minProperties"};
constexpr std::array<std::string_view, 5> kUpperLimits = {"maximum", "exclusiveMaximum", "maxLength", "maxItems",
                                                          "maxProperties"};
constexpr std::array<std::string_view, 4> kSubSchemas = {"items", "additionalItems", "additionalProperties",
                                                         "propertyNames"};

std::unexpected<ApiError> contradiction(const std::string& key) {
    return refuse(
        400, "JSON schema: the parts of allOf (or what stands beside $ref, anyOf or oneOf) disagree about \"{}\"", key);
}

Json as_list(const Json& value) { return value.is_array() ? value : Json::array({value}); }

Json all_of(const Json& a, const Json& b) {
    if (a == b || b == true) return a;
    if (a == true) return b;
    if (a == false || b == false) return false;
    return {{"allOf", Json::array({a, b})}};
}

std::set<std::string> type_set(const Json& types) {
    std::set<std::string> set;
    for (const Json& type : as_list(types))
        if (type.is_string()) set.insert(type.get<std::string>());
    return set;
}

ApiResult<Json> common_types(const Json& a, const Json& b) {
    const std::set<std::string> one = type_set(a), two = type_set(b);
    Json common = Json::array();
    for (const std::string& type : one) {
        if (two.contains(type) || (type == "integer" && two.contains("number"))) common.push_back(type);
    }
    if (one.contains("number") && !one.contains("integer") && two.contains("integer")) common.push_back("integer");
    if (common.empty()) return contradiction("type");
    return common.size() == 1 ? common[0] : common;
}

Json common_values(const Json& a, const Json& b) {
    Json common = Json::array();
    for (const Json& value : a)
        if (std::ranges::find(b, value) != b.end()) common.push_back(value);
    return common;
}

// A list of alternatives beside another one: each of the first together with all of the second.
Json distributed(const std::string& key, const Json& a, const Json& b) {
    Json list = Json::array();
    for (const Json& one : a) list.push_back({{"allOf", Json::array({one, Json({{key, b}})})}});
    return list;
}

Json properties_of(const Json& schema) {
    const Json* properties = find(schema, "properties");
    return properties == nullptr || !properties->is_object() ? Json::object() : *properties;
}

// What a property that `schema` does not name must fit.
Json for_unnamed(const Json& schema) {
    const Json* more = find(schema, "additionalProperties");
    return more == nullptr ? Json(true) : *more;
}

Json merged_properties(const Json& a, const Json& b) {
    Json whole = properties_of(a);
    const Json others = properties_of(b);
    for (auto& [name, schema] : whole.items())
        schema = all_of(schema, others.contains(name) ? others[name] : for_unnamed(b));
    for (const auto& [name, schema] : others.items())
        if (!whole.contains(name)) whole[name] = all_of(schema, for_unnamed(a));
    return whole;
}

ApiResult<Json> merged_value(const std::string& key, const Json& a, const Json& b) {
    const bool numbers = a.is_number() && b.is_number();
    if (numbers && is_one_of(key, kLowerLimits)) return a < b ? b : a;
    if (numbers && is_one_of(key, kUpperLimits)) return a < b ? a : b;
    if (is_one_of(key, kSubSchemas)) return all_of(a, b);
    if (key == "type") return common_types(a, b);
    if (key == "enum" && a.is_array() && b.is_array()) return common_values(a, b);
    if (key == "uniqueItems") return Json(a == true || b == true);
    if ((key == "anyOf" || key == "oneOf") && a.is_array() && b.is_array()) return distributed(key, a, b);
    if (key == "required" || key == "pattern" || key == "format" || key == "allOf") {
        Json list = as_list(a);
        for (const Json& one : as_list(b)) list.push_back(one);
        return list;
    }
    return contradiction(key);
}

// Keywords that say nothing about which values fit.
bool is_annotation(const std::string& key) {
    constexpr std::array<std::string_view, 13> kAnnotations = {
        "$schema", "$id",        "$comment", "$anchor",  "title",     "description",  "default",
        "example", "deprecated", "examples", "readOnly", "writeOnly", "discriminator"};
    return is_one_of(key, kAnnotations) || key == "$defs" || key == "definitions";
}

// ---- telling alternatives apart
// --------------------------------------------------------------------------------------

class Comparison {
public:
    explicit Comparison(const Json& document) : document_(document) {}
    bool exclude_each_other(Json a, Json b, int depth) const;

private:
    static std::optional<std::set<std::string>> types(const Json& schema);
    static std::optional<Json> values(const Json& schema);
    static bool names(const Json& schema, const std::string& property);
    static Json required(const Json& schema);
    static bool requires_unnamed(const Json& a, const Json& b);
    bool objects_differ(const Json& a, const Json& b, int depth) const;

    const Json& document_;
};

std::string type_name(const Json& value) {
    if (value.is_string()) return "string";
    if (value.is_boolean()) return "boolean";
    if (value.is_null()) return "null";
    if (value.is_number()) return "number";
    return value.is_array() ? "array" : "object";
}

std::optional<Json> Comparison::values(const Json& schema) {
    if (schema.contains("const")) return std::optional<Json>(std::in_place, Json::array({schema["const"]}));
    const Json* list = find(schema, "enum");
    if (list == nullptr || !list->is_array()) return std::nullopt;
    return std::optional<Json>(std::in_place, *list);
}

std::optional<std::set<std::string>> Comparison::types(const Json& schema) {
    std::set<std::string> set;
    if (const Json* type = find(schema, "type")) {
        set = type_set(*type);
        if (set.erase("integer") > 0) set.insert("number");
    } else if (const auto list = values(schema)) {
        for (const Json& value : *list) set.insert(type_name(value));
    } else if (find(schema, "properties") != nullptr) {
        set = {"object"};
    } else {
        return std::nullopt;
    }
    return set;
}

// Whether texts written for `schema` may have `property`.
bool Comparison::names(const Json& schema, const std::string& property) {
    const Json properties = properties_of(schema);
    const Json* more = find(schema, "additionalProperties");
    return properties.contains(property) || properties.empty() || find(schema, "patternProperties") != nullptr ||
           (more != nullptr && *more != false);
}

Json Comparison::required(const Json& schema) {
    const Json* list = find(schema, "required");
    return list != nullptr && list->is_array() ? *list : Json::array();
}

bool Comparison::requires_unnamed(const Json& a, const Json& b) {
    return std::ranges::any_of(
        required(a), [&](const Json& name) { return name.is_string() && !names(b, name.get<std::string>()); });
}

bool Comparison::exclude_each_other(Json a, Json b, int depth) const {
    if (depth > kDeepest) return false;
    const auto one = without_reference(document_, std::move(a)), two = without_reference(document_, std::move(b));
    if (!one || !two || !one->is_object() || !two->is_object()) return false;
    const auto types_a = types(*one), types_b = types(*two);
    const auto in_b = [&](const std::string& type) { return types_b->contains(type); };
    if (types_a && types_b && std::ranges::none_of(*types_a, in_b)) return true;
    const auto values_a = values(*one), values_b = values(*two);
    if (values_a && values_b) return common_values(*values_a, *values_b).empty();
    const std::set<std::string> object = {"object"};
    return types_a == object && types_b == object && objects_differ(*one, *two, depth);
}

// Each requires what the other never writes; or some property that both require tells them apart.
bool Comparison::objects_differ(const Json& a, const Json& b, int depth) const {
    if (requires_unnamed(a, b) && requires_unnamed(b, a)) return true;
    const Json properties_a = properties_of(a), properties_b = properties_of(b);
    return std::ranges::any_of(common_values(required(a), required(b)), [&](const Json& name) {
        const std::string key = name.is_string() ? name.get<std::string>() : std::string();
        return properties_a.contains(key) && properties_b.contains(key) &&
               exclude_each_other(properties_a[key], properties_b[key], depth + 1);
    });
}

// "~1" is a slash, "~0" a tilde, "%XX" a byte.
std::string unescaped(std::string_view part) {
    std::string text;
    for (size_t i = 0; i < part.size(); ++i) {
        const bool percent = part[i] == '%' && i + 2 < part.size();
        if (percent && std::isxdigit(static_cast<unsigned char>(part[i + 1])) != 0 &&
            std::isxdigit(static_cast<unsigned char>(part[i + 2])) != 0) {
            text += static_cast<char>(std::stoi(std::string(part.substr(i + 1, 2)), nullptr, 16));
            i += 2;
        } else if (part.substr(i, 2) == "~1" || part.substr(i, 2) == "~0") {
            text += part[++i] == '1' ? '/' : '~';
        } else {
            text += part[i];
        }
    }
    return text;
}

// The schema among the document's definitions whose `key` is `name`.
const Json* definition_with(const Json& document, const char* key, const std::string& name) {
    for (const char* group : {"$defs", "definitions"}) {
        const Json* definitions = find(document, group);
        if (definitions == nullptr || !definitions->is_object()) continue;
        for (const auto& [defined, schema] : definitions->items()) {
            const Json* value = find(schema, key);
            if (value != nullptr && *value == name) return &schema;
        }
    }
    return nullptr;
}

}  // namespace

ApiResult<const Json*> look_up_reference(const Json& document, const std::string& path) {
    const Json* id = find(document, "$id");
    if (path == "#" || (id != nullptr && *id == path)) return &document;
    if (!path.starts_with("#/")) {
        const Json* named = path.starts_with('#') ? definition_with(document, "$anchor", path.substr(1))
                                                  : definition_with(document, "$id", path);
        if (named == nullptr) return refuse(400, "JSON schema: $ref \"{}\" points elsewhere", path);
        return named;
    }
    const Json* at = &document;
    for (size_t begin = 2; begin <= path.size();) {
        const size_t end = std::min(path.find('/', begin), path.size());
        const std::string part = unescaped(std::string_view(path).substr(begin, end - begin));
        const bool number = at->is_array() && !part.empty() && part.size() < 9 &&
                            part.find_first_not_of("0123456789") == std::string::npos;
        if (number)
            at = std::stoul(part) < at->size() ? &(*at)[std::stoul(part)] : nullptr;
        else
            at = at->is_object() && at->contains(part) ? &(*at)[part] : nullptr;
        if (at == nullptr) return refuse(400, "JSON schema: $ref \"{}\" leads nowhere", path);
        begin = end + 1;
    }
    return at;
}

ApiResult<Json> without_reference(const Json& document, Json schema) {
    std::vector<Json> beside;  // what stood beside each reference on the way
    while (const Json* path = find(schema, "$ref")) {
        if (!path->is_string()) return refuse(400, "JSON schema: $ref must be a string");
        if (beside.size() >= kDeepest) return refuse(400, "JSON schema: a $ref leads back to itself");
        HYPURA_ASSIGN(const Json* target, look_up_reference(document, path->get<std::string>()));
        schema.erase("$ref");
        beside.push_back(std::exchange(schema, *target));
    }
    for (const Json& siblings : beside) {
        HYPURA_ASSIGN(schema, both(schema, siblings));
    }
    return schema;
}

ApiResult<Json> both(const Json& a, const Json& b) {
    if (b == true) return a;
    if (a == true) return b;
    if (a == false || b == false) return Json(false);
    if (!a.is_object() || !b.is_object()) return refuse(400, "JSON schema: a schema must be an object");
    Json whole = a;
    const Json properties = merged_properties(a, b);
    for (const auto& [key, value] : b.items()) {
        if (!whole.contains(key) || whole[key].is_null()) {
            whole[key] = value;
        } else if (whole[key] != value && !is_annotation(key) && key != "properties") {
            HYPURA_ASSIGN(whole[key], merged_value(key, a[key], value));
        }
    }
    if (!properties.empty()) whole["properties"] = properties;
    return whole;
}

bool exclude_each_other(const Json& document, const Json& a, const Json& b) {
    return Comparison(document).exclude_each_other(a, b, 0);
}

}  // namespace hypura::server
