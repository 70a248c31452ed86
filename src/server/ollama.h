// Ollama's native API as pure translation: request JSON -> Request, events -> NDJSON. No HTTP, no engine.
// Format: https://github.com/ollama/ollama/blob/main/docs/api.md; docs/server.md says where we are more lenient.
#pragma once

#include "server/json.h"
#include "server/reply.h"

namespace hypura::server::ollama {

// No messages, or an empty prompt: the model is only loaded (keep_alive 0: unloaded), and the answer is one object.
ApiResult<Request> parse_chat(const Json& body);
ApiResult<Request> parse_generate(const Json& body);
ApiResult<EmbedRequest> parse_embed(const Json& body);       // /api/embed
ApiResult<EmbedRequest> parse_embeddings(const Json& body);  // /api/embeddings: one prompt, not normalised

bool only_loads(const Request& request);

std::unique_ptr<Reply> chat_reply(const Request& request);
std::unique_ptr<Reply> generate_reply(const Request& request);
std::string embed_body(const EmbedRequest& request, const Embeddings& embeddings);
std::string embeddings_body(const Embeddings& embeddings);

// {"error":"..."}
std::string error_body(const ApiError& error);

// The model's name from {"model"} or {"name"}. Errors: 400 "model is required".
ApiResult<std::string> parse_model_name(const Json& body);

}  // namespace hypura::server::ollama
