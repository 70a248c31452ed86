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

}  // namespace

ApiResult<Json> parse_body(std::string_view body) {
    if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) return refuse(400, "missing request body");
    try {
        Json json = Json::parse(body);
        if (!json.is_object()) return refuse(400, "the request body must be a JSON object");
        return json;
    } catch (const std::exception& error) {
        return refuse(400, "{}", error.what());
    }
}

std::optional<Json> try_parse(std::string_view text) {
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
