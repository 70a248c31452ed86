// Reading the parts of a request that several dialects write alike: tools, contents, sampling, formats.
#pragma once

#include "server/json.h"
#include "server/request.h"

namespace hypura::server {

// OpenAI-shaped: [{"type":"function","function":{"name","description","parameters"}}]; other types are left out.
ApiResult<std::vector<Tool>> read_tools(const Json& body);
Tool make_tool(std::string name, const Json& description, const Json& parameters);

// A string, or an array of parts of which the texts are joined. Images and sound are refused: 400.
ApiResult<std::string> read_content(const Json& message, std::string_view model);

// [{"id","function":{"name","arguments": object or text}}]
ApiResult<std::vector<ToolCall>> read_tool_calls(const Json& message);

// temperature, top_p, ... under the names that Ollama, OpenAI and llama-server share.
ApiResult<Sampling> read_sampling(const Json& object);

// OpenAI's "response_format", and llama-server's "json_schema" and "grammar".
ApiResult<Format> read_response_format(const Json& body);

// "auto", "none", "required", {"type":"function","function":{"name"}} or {"type":"function","name"}; absent is "auto".
ApiStatus read_tool_choice(const Json& body, ChatPrompt& prompt);

// "none" switches thinking off, everything else on: OpenAI's reasoning_effort and reasoning.effort.
void set_effort(Request& request, const std::string& effort);

ApiResult<std::string> require_model(const Json& body);  // 400 "model is required"

}  // namespace hypura::server
