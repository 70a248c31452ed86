// Our own endpoints: the cache of a prompt's beginning, kept in a file across restarts.
//   POST /prefix/save    {"model", "messages" (and "tools") or "prompt", "file"} -> {"tokens"}
//   POST /prefix/restore {"model", "file"} -> {"tokens"}
#include "server/openai.h"
#include "server/request_json.h"
#include "server/route_support.h"

namespace hypura::server {
namespace {

std::string error_body(const ApiError& error) { return dump(openai::error_json(error)); }

// A plain name inside the folder that was set for this: clients choose no paths.
ApiResult<std::string> file_path(const Json& body, const RouteOptions& options) {
    if (options.prefix_folder.empty()) return refuse(400, "no folder for prefixes is set: start with --prefixes");
    HYPURA_ASSIGN(const auto file, read_string(body, "file"));
    const std::string name = file.value_or("");
    if (name.empty() || name.starts_with('.') || name.contains('/') || name.contains('\0'))
        return refuse(400, "file must be a plain name");
    return options.prefix_folder + "/" + name;
}

ApiResult<Request> parse_prompt(const Json& body) {
    return find(body, "messages") == nullptr ? openai::parse_completion(body) : openai::parse_chat(body);
}

using Started = std::function<ApiStatus(std::function<void(ApiResult<uint64_t>)>)>;

HttpReply reply_with(const ApiResult<Started>& start, const AnswerStreamOptions& options) {
    if (!start) return json_reply(error_body(start.error()), start.error().status);
    return later<uint64_t>(
        *start, [](const uint64_t& tokens) { return dump({{"tokens", tokens}}); }, error_body, options);
}

ApiResult<Started> save(Service& service, const RouteOptions& options, const std::string& text) {
    HYPURA_ASSIGN(const Json body, parse_body(text));
    HYPURA_ASSIGN(const std::string path, file_path(body, options));
    HYPURA_ASSIGN(const Request request, parse_prompt(body));
    return [&service, path, request](auto done) { return service.save_prefix(request, path, std::move(done)); };
}

ApiResult<Started> restore(Service& service, const RouteOptions& options, const std::string& text) {
    HYPURA_ASSIGN(const Json body, parse_body(text));
    HYPURA_ASSIGN(const std::string path, file_path(body, options));
    HYPURA_ASSIGN(const std::string model, require_model(body));
    return [&service, path, model](auto done) { return service.restore_prefix(model, path, std::move(done)); };
}

}  // namespace

void add_prefix_routes(Router& router, Service& service, const RouteOptions& options) {
    router.add("POST", "/prefix/save", [&](const HttpRequest& http) {
        return reply_with(save(service, options, http.body), stream_options(http, options, false));
    });
    router.add("POST", "/prefix/restore", [&](const HttpRequest& http) {
        return reply_with(restore(service, options, http.body), stream_options(http, options, false));
    });
}

}  // namespace hypura::server
