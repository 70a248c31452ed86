// JSON at the edge: parsing, printing and lenient reading of fields. nlohmann-json's exceptions end here.
//
// Clients send null for "absent", floats for integers and fields that nobody knows; none of that is an error. A value
// of the wrong kind is one (400), and the message names the field.
#pragma once

#include "server/api_error.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::server {

using Json = nlohmann::ordered_json;  // key order is kept: arguments of tool calls go back as they came

// Errors: 400 with the parser's own text; an empty body is 400 "missing request body"; arrays and objects more than
// kDeepestJson deep are refused, since whoever walks through them does so recursively.
inline constexpr int kDeepestJson = 256;
ApiResult<Json> parse_body(std::string_view body);
// The same for text that a model wrote: empty when it is no JSON, or too deep.
std::optional<Json> try_parse(std::string_view text);

// Compact; bytes that are no UTF-8 become U+FFFD.
std::string dump(const Json& json);

// nullptr when `object` is no object, has no such key, or the value is null.
const Json* find(const Json& object, std::string_view key);

// Empty when absent or null; 400 when of another kind. Numbers with a fraction are truncated to integers.
ApiResult<std::optional<bool>> read_bool(const Json& object, std::string_view key);
ApiResult<std::optional<int64_t>> read_integer(const Json& object, std::string_view key);
ApiResult<std::optional<double>> read_number(const Json& object, std::string_view key);
ApiResult<std::optional<std::string>> read_string(const Json& object, std::string_view key);
// A string or an array of strings.
ApiResult<std::vector<std::string>> read_strings(const Json& object, std::string_view key);

}  // namespace hypura::server
