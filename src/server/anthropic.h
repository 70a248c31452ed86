// Anthropic's Messages API as pure translation: request JSON -> Request, events -> named SSE events.
// Format: https://docs.anthropic.com/en/api/messages
#pragma once

#include "server/json.h"
#include "server/reply.h"

namespace hypura::server::anthropic {

ApiResult<Request> parse_messages(const Json& body);
ApiResult<Request> parse_count_tokens(const Json& body);  // the same, but max_tokens is not required

std::unique_ptr<Reply> messages_reply(const Request& request);
std::string count_tokens_body(uint64_t tokens);

// {"type":"error","error":{"type","message"},"request_id"}
Json error_json(const ApiError& error);

}  // namespace hypura::server::anthropic
