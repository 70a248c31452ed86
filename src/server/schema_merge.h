// What JSON schemas mean together: several that hold at once become one; alternatives that exclude each other are told
// from those that overlap. Works on the schemas as JSON, before any grammar is written.
#pragma once

#include "server/api_error.h"
#include "server/json.h"

#include <string>

namespace hypura::server {

// The schema that "#", "#/$defs/name", "#name" ($anchor) or an "$id" names. Errors: 400 for references elsewhere, and
// those that lead nowhere.
ApiResult<const Json*> look_up_reference(const Json& document, const std::string& path);

// `schema` without "$ref": the target takes its place, and what stood beside it holds, too.
ApiResult<Json> without_reference(const Json& document, Json schema);

// The schema of values that fit both; neither has "$ref". What cannot be said in one keyword goes into "allOf" of
// sub-schemas, or into an array for "pattern" and "format". Errors: 400 for a contradiction.
ApiResult<Json> both(const Json& a, const Json& b);

// Whether no text that is written for one of them fits the other. False when that is not plain to see. Texts are
// written without properties that their schema does not name.
bool exclude_each_other(const Json& document, const Json& a, const Json& b);

}  // namespace hypura::server
