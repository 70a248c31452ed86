// OpenAI's Responses API, stateless: request JSON -> Request, events -> named SSE events.
// Format: https://platform.openai.com/docs/api-reference/responses
#pragma once

#include "server/json.h"
#include "server/reply.h"

namespace hypura::server::openai {

// Errors: 400; "previous_response_id" is refused, since nothing is stored.
ApiResult<Request> parse_responses(const Json& body);
std::unique_ptr<Reply> responses_reply(const Request& request);

}  // namespace hypura::server::openai
