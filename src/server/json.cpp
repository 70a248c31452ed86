#include "server/json.h"

#include <cmath>

namespace hypura::server {
namespace {

std::unexpected<ApiError> wrong_kind(std::string_view key, std::string_view wanted) {
    return refuse(400, "option \"{}\" must be of type {}", key, wanted);
}

// Casting a double that does not fit is undefined.
int64_t to_integer(double number) {
    constexpr double kLimit = 9e18;
    return std::isnan(number) ? 0 : static_cast<int64_t>(std::fmin(std::fmax(number, -kLimit), kLimit));
}

// Brackets outside of strings; good enough for text that is no JSON, too.
bool is_too_deep(std::string_view text) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string && c == '\\') ++i;
        if (c == '"') in_string = !in_string;
        if (in_string) continue;
        if (c == '[' || c == '{') ++depth;
        if (c == ']' || c == '}') --depth;
        if (depth > kDeepestJson) return true;
    }
    return false;
}

}  // namespace

ApiResult<Json> parse_body(std::string_view body) {
    if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) return refuse(400, "missing request body");
    if (is_too_deep(body)) return refuse(400, "the request body is nested more than {} levels deep", kDeepestJson);
    try {
        Json json = Json::parse(body);
        if (!json.is_object()) return refuse(400, "the request body must be a JSON object");
        return json;
    } catch (const std::exception& error) {
        const std::string_view text = error.what();  // "[json.exception.parse_error.101] parse error at line 1, ..."
        return refuse(400, "invalid JSON: {}", text.substr(std::min(text.find("] "), text.size() - 2) + 2));
    }
}

std::optional<Json> try_parse(std::string_view text) {
    if (is_too_deep(text)) return std::nullopt;
    Json json = Json::parse(text, nullptr, false);
    if (json.is_discarded()) return std::nullopt;
    return std::optional<Json>(std::move(json));
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

const Json* find(const Json& object, std::string_view key) {
    if (!object.is_object()) return nullptr;
    const auto entry = object.find(key);
    return entry == object.end() || entry->is_null() ? nullptr : &*entry;
}

ApiResult<std::optional<bool>> read_bool(const Json& object, std::string_view key) {
    const Json* value = find(object, key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) return wrong_kind(key, "boolean");
    return value->get<bool>();
}

ApiResult<std::optional<int64_t>> read_integer(const Json& object, std::string_view key) {
    const Json* value = find(object, key);
    if (value == nullptr) return std::nullopt;
    if (value->is_number_integer()) return value->get<int64_t>();
    if (value->is_number()) return to_integer(value->get<double>());
    return wrong_kind(key, "integer");
}

ApiResult<std::optional<double>> read_number(const Json& object, std::string_view key) {
    const Json* value = find(object, key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number()) return wrong_kind(key, "float32");
    return value->get<double>();
}

ApiResult<std::optional<std::string>> read_string(const Json& object, std::string_view key) {
    const Json* value = find(object, key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) return wrong_kind(key, "string");
    return value->get<std::string>();
}

ApiResult<std::vector<std::string>> read_strings(const Json& object, std::string_view key) {
    const Json* value = find(object, key);
    std::vector<std::string> strings;
    if (value == nullptr) return strings;
    if (value->is_string()) return std::vector{value->get<std::string>()};
    if (!value->is_array()) return wrong_kind(key, "array");
    for (const Json& entry : *value) {
        if (!entry.is_string()) return wrong_kind(key, "array of strings");
        strings.push_back(entry.get<std::string>());
    }
    return strings;
}

}  // namespace hypura::server
