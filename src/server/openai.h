// OpenAI's chat completions, completions and embeddings as pure translation: request JSON -> Request, events -> SSE.
// (Responses are in openai_responses.h.) Format: https://platform.openai.com/docs/api-reference
#pragma once

#include "server/json.h"
#include "server/reply.h"

namespace hypura::server::openai {

ApiResult<Request> parse_chat(const Json& body);
ApiResult<Request> parse_completion(const Json& body);
ApiResult<EmbedRequest> parse_embeddings(const Json& body);

std::unique_ptr<Reply> chat_reply(const Request& request);
std::unique_ptr<Reply> completion_reply(const Request& request);
std::string embeddings_body(const EmbedRequest& request, const Embeddings& embeddings);

// {"error":{"message","type","param":null,"code":null}}; llama-server's extra fields when the context is exceeded.
Json error_json(const ApiError& error);

// {"prompt_tokens","completion_tokens","total_tokens","prompt_tokens_details":{"cached_tokens"}}
Json usage_json(const Usage& usage);

// Messages of the chat format: also what the tokenizing endpoints take.
ApiResult<ChatPrompt> parse_chat_prompt(const Json& body, std::string_view model);

}  // namespace hypura::server::openai
