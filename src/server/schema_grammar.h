// JSON schema -> GBNF, the notation of llama.cpp's grammars, and the grammars that tool calls are held to.
//
// Constrained are: types, enum, const, properties with required, additionalProperties, items, prefixItems, the lengths
// of strings and arrays, anyOf, oneOf, allOf of objects, and $ref into the same document. What a context-free grammar
// cannot or need not say (pattern, format, ranges of numbers, multipleOf, uniqueItems) is left to the model: such an
// answer still has the right shape. Properties come in the schema's order.
#pragma once

#include "server/api_error.h"
#include "server/request.h"
#include "server/template_family.h"

#include <string>
#include <vector>

namespace hypura::server {

// Errors: 400 for text that is no schema, a $ref that leads nowhere, or a schema nested deeper than 64.
ApiResult<std::string> grammar_of_schema(const std::string& schema_json);
// Any JSON object.
std::string grammar_of_json_object();

// One or more calls of `tools` in the model's own notation; `only` names one of them, or is empty.
// Errors: 400 when there is no such tool.
ApiResult<std::string> grammar_of_tool_calls(ToolStyle style, const std::vector<Tool>& tools, const std::string& only,
                                             bool parallel);

// `grammar` after free thinking between the family's tags. `begins_thinking`: the opening tag is already written.
std::string allow_thinking(std::string grammar, const TemplateFamily& family, bool begins_thinking);

}  // namespace hypura::server
