// Whether a JSON value fits a JSON schema, straight from the standard's words and without a grammar: the judge of what
// grammars let through. Knows the keywords that the tests use.
#pragma once

#include "server/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <regex>
#include <set>
#include <string>

namespace hypura::server {

class SchemaValidator {
public:
    explicit SchemaValidator(const Json& document) : document_(document) {}
    bool fits(const Json& value) const { return fits(value, document_); }

private:
    static bool has_type(const Json& value, const std::string& type) {
        if (type == "integer") return value.is_number() && value.get<double>() == std::floor(value.get<double>());
        return type == (value.is_string()    ? "string"
                        : value.is_boolean() ? "boolean"
                        : value.is_null()    ? "null"
                        : value.is_number()  ? "number"
                        : value.is_array()   ? "array"
                                             : "object");
    }
    static size_t characters(const std::string& text) {
        return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; }));
    }
    static bool matches(const std::string& text, const std::string& pattern) {
        return std::regex_search(text, std::regex(pattern, std::regex::ECMAScript));
    }

    bool fits(const Json& value, const Json& schema) const {
        if (schema.is_boolean()) return schema.get<bool>();
        if (schema.contains("$ref")) {
            const Json::json_pointer at(schema["$ref"].get<std::string>().substr(1));
            if (!fits(value, document_.at(at))) return false;
        }
        if (schema.contains("nullable") && schema["nullable"] == true && value.is_null()) return true;
        if (schema.contains("const") && value != schema["const"]) return false;
        if (schema.contains("enum") && std::ranges::find(schema["enum"], value) == schema["enum"].end()) return false;
        if (schema.contains("type") && !any_type(value, schema["type"])) return false;
        return combinations(value, schema) && (!value.is_string() || string_fits(value.get<std::string>(), schema)) &&
               (!value.is_number() || number_fits(value.get<double>(), schema)) &&
               (!value.is_array() || array_fits(value, schema)) && (!value.is_object() || object_fits(value, schema));
    }
    static bool any_type(const Json& value, const Json& types) {
        if (types.is_string()) return has_type(value, types.get<std::string>());
        return std::ranges::any_of(types, [&](const Json& type) { return has_type(value, type.get<std::string>()); });
    }
    bool combinations(const Json& value, const Json& schema) const {
        const auto count = [&](const char* key) {
            return std::ranges::count_if(schema[key], [&](const Json& part) { return fits(value, part); });
        };
        if (schema.contains("allOf") && count("allOf") != static_cast<int64_t>(schema["allOf"].size())) return false;
        if (schema.contains("anyOf") && count("anyOf") == 0) return false;
        return !schema.contains("oneOf") || count("oneOf") == 1;
    }
    static bool string_fits(const std::string& text, const Json& schema) {
        if (schema.contains("minLength") && characters(text) < schema["minLength"].get<size_t>()) return false;
        if (schema.contains("maxLength") && characters(text) > schema["maxLength"].get<size_t>()) return false;
        return !schema.contains("pattern") || matches(text, schema["pattern"].get<std::string>());
    }
    static bool number_fits(double number, const Json& schema) {
        const auto limit = [&](const char* key) { return schema[key].get<double>(); };
        if (schema.contains("minimum") && number < limit("minimum")) return false;
        if (schema.contains("maximum") && number > limit("maximum")) return false;
        if (schema.contains("exclusiveMinimum") && schema["exclusiveMinimum"] == true && number == limit("minimum"))
            return false;
        if (schema.contains("exclusiveMinimum") && schema["exclusiveMinimum"].is_number() &&
            number <= limit("exclusiveMinimum"))
            return false;
        if (schema.contains("exclusiveMaximum") && number >= limit("exclusiveMaximum")) return false;
        if (!schema.contains("multipleOf")) return true;
        const double times = number / limit("multipleOf");
        return std::abs(times - std::round(times)) < 1e-6 * std::max(1.0, std::abs(times));
    }
    bool array_fits(const Json& list, const Json& schema) const {
        if (schema.contains("minItems") && list.size() < schema["minItems"].get<size_t>()) return false;
        if (schema.contains("maxItems") && list.size() > schema["maxItems"].get<size_t>()) return false;
        if (schema.contains("uniqueItems") && schema["uniqueItems"] == true)
            for (size_t i = 0; i < list.size(); ++i)
                for (size_t j = 0; j < i; ++j)
                    if (list[i] == list[j]) return false;
        const size_t first = schema.contains("prefixItems") ? schema["prefixItems"].size() : 0;
        for (size_t i = 0; i < list.size(); ++i) {
            if (i < first && !fits(list[i], schema["prefixItems"][i])) return false;
            if (i >= first && schema.contains("items") && !fits(list[i], schema["items"])) return false;
        }
        return true;
    }
    bool object_fits(const Json& object, const Json& schema) const {
        if (schema.contains("minProperties") && object.size() < schema["minProperties"].get<size_t>()) return false;
        if (schema.contains("maxProperties") && object.size() > schema["maxProperties"].get<size_t>()) return false;
        if (schema.contains("required"))
            for (const Json& name : schema["required"])
                if (!object.contains(name.get<std::string>())) return false;
        for (const auto& [name, value] : object.items()) {
            if (schema.contains("propertyNames") && !fits(Json(name), schema["propertyNames"])) return false;
            bool named = schema.contains("properties") && schema["properties"].contains(name);
            if (named && !fits(value, schema["properties"][name])) return false;
            if (schema.contains("patternProperties"))
                for (const auto& [pattern, rule] : schema["patternProperties"].items()) {
                    if (!matches(name, pattern)) continue;
                    named = true;
                    if (!fits(value, rule)) return false;
                }
            if (!named && schema.contains("additionalProperties") && !fits(value, schema["additionalProperties"]))
                return false;
        }
        return true;
    }

    const Json& document_;
};

}  // namespace hypura::server
