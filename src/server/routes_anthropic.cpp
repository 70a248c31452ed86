// Anthropic's endpoints. (GET /v1/models serves its client, too.)
#include "server/anthropic.h"
#include "server/route_support.h"

namespace hypura::server {
namespace {

std::string error_body(const ApiError& error) { return dump(anthropic::error_json(error)); }

HttpReply count_tokens(Service& service, const RouteOptions& options, const HttpRequest& http) {
    const auto body = parse_body(http.body);
    if (!body) return json_reply(error_body(body.error()), body.error().status);
    const auto request = anthropic::parse_count_tokens(*body);
    if (!request) return json_reply(error_body(request.error()), request.error().status);
    const auto client = std::make_shared<ClientLink>();
    return later<uint64_t>([&](auto done) { return service.count_tokens(*request, client, std::move(done)); },
                           [](const uint64_t& tokens) { return anthropic::count_tokens_body(tokens); }, error_body,
                           stream_options(http, options, false), client);
}

}  // namespace

void add_anthropic_routes(Router& router, Service& service, const RouteOptions& options) {
    static constexpr Generator kMessages{anthropic::parse_messages, anthropic::messages_reply, error_body};
    router.add("POST", "/v1/messages",
               [&](const HttpRequest& http) { return generate(kMessages, service, options, http); });
    router.add("POST", "/v1/messages/count_tokens",
               [&](const HttpRequest& http) { return count_tokens(service, options, http); });
}

}  // namespace hypura::server
