// What the handlers of all dialects do alike: parse, ask the service, answer in the dialect's form.
#pragma once

#include "server/answer_stream.h"
#include "server/json.h"
#include "server/routes.h"

#include <future>

namespace hypura::server {

inline HttpReply json_reply(std::string body, int status = 200) { return {.status = status, .body = std::move(body)}; }

inline AnswerStreamOptions stream_options(const HttpRequest& http, const RouteOptions& options, bool stream) {
    return {stream, options.keep_alive, http.client_gone};
}

// How one endpoint that generates is served.
struct Generator {
    ApiResult<Request> (*parse)(const Json& body);
    std::unique_ptr<Reply> (*reply)(const Request& request);
    std::string (*error)(const ApiError& error);
    bool (*only_loads)(const Request& request) = nullptr;
};

inline HttpReply generate(const Generator& how, Service& service, const RouteOptions& options,
                          const HttpRequest& http) {
    const auto refuse_with = [&how](const ApiError& error) { return json_reply(how.error(error), error.status); };
    const auto body = parse_body(http.body);
    if (!body) return refuse_with(body.error());
    auto request = how.parse(*body);
    if (!request) return refuse_with(request.error());
    auto reply = how.reply(*request);
    const bool stream = request->stream;
    const bool load = how.only_loads != nullptr && how.only_loads(*request);
    auto channel = load ? service.load(*request) : service.generate(*std::move(request));
    if (!channel) return refuse_with(channel.error());
    return answer(*std::move(channel), std::move(reply), stream_options(http, options, stream));
}

// For results that come through a callback: starts, then waits with keep-alive bytes. `client` hears when nobody waits
// any more.
template <class T>
HttpReply later(const std::function<ApiStatus(std::function<void(ApiResult<T>)>)>& start,
                const std::function<std::string(const T&)>& body, std::string (*error)(const ApiError& error),
                const AnswerStreamOptions& options, const ClientPointer& client = std::make_shared<ClientLink>()) {
    const auto promise = std::make_shared<std::promise<ApiResult<T>>>();
    const auto future = std::make_shared<std::future<ApiResult<T>>>(promise->get_future());
    const ApiStatus started = start([promise](ApiResult<T> result) { promise->set_value(std::move(result)); });
    if (!started) return json_reply(error(started.error()), started.error().status);
    const std::shared_ptr<void> waiting(nullptr, [client](void*) { client->abandon(); });
    return answer_later(
        [future, body, error, waiting](std::chrono::milliseconds patience) -> std::optional<LateBody> {
            if (future->wait_for(patience) != std::future_status::ready) return std::nullopt;
            const ApiResult<T> result = future->get();
            if (!result) return LateBody{error(result.error()), result.error().status};
            return LateBody{body(*result), 200};
        },
        options);
}

}  // namespace hypura::server
