// JSON schema -> GBNF, the notation of llama.cpp's grammars, and the grammars that tool calls are held to.
//
// A text that follows the grammar fits the schema. Kept are: type (one or several, nullable), enum, const, properties,
// required, additionalProperties, patternProperties, propertyNames, minProperties, maxProperties, items, prefixItems,
// minItems, maxItems, uniqueItems of a short enum, minLength, maxLength, pattern (pattern.h), format, minimum, maximum,
// exclusiveMinimum, exclusiveMaximum, multipleOf, anyOf, oneOf of alternatives that plainly exclude each other, allOf,
// and $ref into the same document. Any other keyword that asks something of a value is refused by name; those that ask
// nothing (title, default, x-whatever) are passed over.
//
// Not every text that fits the schema follows the grammar: properties come in the schema's order, and none but those of
// "properties" are written unless additionalProperties or patternProperties allows them in so many words.
#pragma once

#include "server/api_error.h"
#include "server/request.h"
#include "server/template_family.h"

#include <string>
#include <vector>

namespace hypura::server {

// Errors: 400 for text that is no schema, asks for what no grammar can keep, contradicts itself, or is too large.
ApiResult<std::string> grammar_of_schema(const std::string& schema_json);
// Any JSON object.
std::string grammar_of_json_object();

// One or more calls of `tools` in the model's own notation; `only` names one of them, or is empty.
// Errors: 400 when there is no such tool.
ApiResult<std::string> grammar_of_tool_calls(const TemplateFamily& family, const std::vector<Tool>& tools,
                                             const std::string& only, bool parallel);

// `grammar` after free thinking between the family's tags. `begins_thinking`: the opening tag is already written.
std::string allow_thinking(std::string grammar, const TemplateFamily& family, bool begins_thinking);

}  // namespace hypura::server
