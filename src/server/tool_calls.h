// What models write between the markers of a tool call, in the notation of each family.
#pragma once

#include "server/request.h"
#include "server/template_family.h"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::server {

// By tool: the parameters that are texts. Some notations write values without quotation marks, and a text may look like
// a number, or like JSON (the content of a file, say).
using TextParameters = std::map<std::string, std::set<std::string>, std::less<>>;
std::set<std::string> text_parameters(const std::string& schema_json);

// Everything between a family's opening and closing marker. Empty when the text is no call.
std::vector<ToolCall> parse_calls(ToolStyle style, std::string_view text, const TextParameters& texts);

std::vector<ToolCall> parse_json_calls(std::string_view text);  // {..}, [{..}], or several {..} after one another

// Without white space at either end.
std::string_view trimmed(std::string_view text);

}  // namespace hypura::server
