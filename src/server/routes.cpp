#include "server/routes.h"

#include "server/anthropic.h"
#include "server/ollama.h"
#include "server/openai.h"

#include <algorithm>

namespace hypura::server {
namespace {

bool path_matches(const std::string& pattern, const std::string& path) {
    if (pattern.ends_with('*')) return path.starts_with(pattern.substr(0, pattern.size() - 1));
    return pattern == path;
}

std::string without_last_slash(std::string path) {
    if (path.size() > 1 && path.ends_with('/')) path.pop_back();
    return path;
}

// In the form of the dialect that the path belongs to.
std::string error_body(const HttpRequest& request, const ApiError& error) {
    if (request.path.starts_with("/v1/messages")) return dump(anthropic::error_json(error));
    if (request.path.starts_with("/v1/")) return dump(openai::error_json(error));
    return ollama::error_body(error);
}

HttpReply broken_body(const HttpRequest& request) {
    const ApiError error(request.body_status,
                         request.body_status == 413 ? "the request body is too large" : "the request body broke off");
    return {.status = error.status, .body = error_body(request, error)};
}

}  // namespace

uint32_t RouteOptions::usable_context(const ModelEntry& model) const {
    const uint64_t trained = model.shape.context_train;
    return trained == 0 ? context_tokens : static_cast<uint32_t>(std::min<uint64_t>(trained, context_tokens));
}

void Router::add(const std::string& method, const std::string& path, Handler handler) {
    routes_.push_back({method, path, std::move(handler)});
}

HttpReply Router::dispatch(const HttpRequest& request) const {
    const std::string method = request.method == "HEAD" ? "GET" : request.method;
    const std::string path = without_last_slash(request.path);
    std::string allowed;
    for (const Route& route : routes_) {
        if (!path_matches(route.path, path)) continue;
        if (route.method == method) return route.handler(request);
        allowed += (allowed.empty() ? "" : ", ") + route.method + (route.method == "GET" ? ", HEAD" : "");
    }
    if (!allowed.empty())
        return {.status = 405,
                .content_type = "text/plain",
                .body = "405 method not allowed",
                .headers = {{"Allow", allowed}}};
    return {.status = 404, .content_type = "text/plain", .body = "404 page not found"};
}

Application::Application(Service& service, RouteOptions options)
    : options_(std::move(options)), access_(options_.access) {
    add_ollama_routes(router_, service, options_);
    add_openai_routes(router_, service, options_);
    add_anthropic_routes(router_, service, options_);
    add_prefix_routes(router_, service, options_);
    add_status_routes(router_, service, options_);
}

HttpReply Application::handle(const HttpRequest& request) const {
    auto refused = access_.refuse_or_preflight(request);
    if (refused && refused->status == 401) refused->body = error_body(request, {401, "Invalid API Key"});
    HttpReply reply = refused                   ? *std::move(refused)
                      : request.body_status > 0 ? broken_body(request)
                                                : router_.dispatch(request);
    access_.add_headers(request, reply);
    // openai-node repeats a request after a 5xx: on a slow machine that is the last thing that anybody wants.
    if (reply.status >= 500 && reply.status != 503) reply.headers.emplace_back("x-should-retry", "false");
    reply.headers.emplace_back("Server", "hypura/" + options_.version);
    return reply;
}

}  // namespace hypura::server
