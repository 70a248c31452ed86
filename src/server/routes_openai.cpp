// OpenAI's endpoints.
#include "server/openai.h"
#include "server/openai_responses.h"
#include "server/route_support.h"
#include "server/text_util.h"

namespace hypura::server {
namespace {

std::string error_body(const ApiError& error) { return dump(openai::error_json(error)); }
HttpReply error_reply(const ApiError& error) { return json_reply(error_body(error), error.status); }

// More than OpenAI says: many clients look for the size of the context, under one of these names.
Json model_json(const ModelEntry& model, const RouteOptions& options) {
    const uint32_t context = options.usable_context(model);
    return {{"id", model.name},
            {"object", "model"},
            {"created", unix_seconds(model.modified)},
            {"owned_by", "library"},
            {"display_name", model.name},
            {"type", "model"},
            {"created_at", rfc3339(model.modified)},
            {"context_length", context},
            {"max_model_len", context},
            {"meta",
             {{"n_ctx", context},
              {"n_ctx_train", model.shape.context_train},
              {"n_params", model.parameters},
              {"size", model.size_bytes}}}};
}

HttpReply models(Service& service, const RouteOptions& options) {
    Json list = Json::array();
    for (const ModelPointer& model : service.store().list()) list.push_back(model_json(*model, options));
    Json json = {{"object", "list"}, {"data", list}, {"has_more", false}};
    json["first_id"] = list.empty() ? Json() : list.front()["id"];
    json["last_id"] = list.empty() ? Json() : list.back()["id"];
    return json_reply(dump(json));
}

HttpReply one_model(Service& service, const RouteOptions& options, const HttpRequest& http) {
    const std::string name = http.path.substr(std::string_view("/v1/models/").size());
    const auto model = service.store().find(name);
    if (!model) return error_reply(model.error());
    Json json = model_json(**model, options);
    json["id"] = name;
    return json_reply(dump(json));
}

HttpReply embeddings(Service& service, const RouteOptions& options, const HttpRequest& http) {
    const auto body = parse_body(http.body);
    if (!body) return error_reply(body.error());
    const auto request = openai::parse_embeddings(*body);
    if (!request) return error_reply(request.error());
    const auto client = std::make_shared<ClientLink>();
    return later<Embeddings>(
        [&](auto done) { return service.embed(*request, client, std::move(done)); },
        [request = *request](const Embeddings& result) { return openai::embeddings_body(request, result); }, error_body,
        stream_options(http, options, false), client);
}

}  // namespace

void add_openai_routes(Router& router, Service& service, const RouteOptions& options) {
    static constexpr Generator kChat{openai::parse_chat, openai::chat_reply, error_body};
    static constexpr Generator kCompletion{openai::parse_completion, openai::completion_reply, error_body};
    static constexpr Generator kResponses{openai::parse_responses, openai::responses_reply, error_body};
    router.add("GET", "/v1/models", [&](const HttpRequest&) { return models(service, options); });
    router.add("GET", "/v1/models/*", [&](const HttpRequest& http) { return one_model(service, options, http); });
    router.add("POST", "/v1/chat/completions",
               [&](const HttpRequest& http) { return generate(kChat, service, options, http); });
    router.add("POST", "/v1/completions",
               [&](const HttpRequest& http) { return generate(kCompletion, service, options, http); });
    router.add("POST", "/v1/responses",
               [&](const HttpRequest& http) { return generate(kResponses, service, options, http); });
    router.add("POST", "/v1/embeddings", [&](const HttpRequest& http) { return embeddings(service, options, http); });
}

}  // namespace hypura::server
