// Paths and what serves them. Handlers run on the connection's thread and return at once or wait for their request
// only.
#pragma once

#include "server/access.h"
#include "server/http_types.h"
#include "server/service.h"

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace hypura::server {

struct RouteOptions {
    std::string version;                          // of hypura, for the Server header
    std::chrono::milliseconds keep_alive{15000};  // silence after which a waiting client hears something
    AccessOptions access;
    std::string prefix_folder;       // where /prefix/save writes; empty: nothing is saved or restored
    uint32_t context_tokens = 8192;  // that a model gets, at most; all its sequences share them
    uint32_t sequences = 8;          // that a model serves at once

    // What clients may count on: models trained for less get less.
    uint32_t usable_context(const ModelEntry& model) const;
};

using Handler = std::function<HttpReply(const HttpRequest& request)>;

class Router {
public:
    // `path` may end in '*': any rest matches.
    void add(const std::string& method, const std::string& path, Handler handler);
    // 404 for an unknown path, 405 for a known one with another method. HEAD is GET without the body.
    HttpReply dispatch(const HttpRequest& request) const;

private:
    struct Route {
        std::string method, path;
        Handler handler;
    };
    std::vector<Route> routes_;
};

void add_ollama_routes(Router& router, Service& service, const RouteOptions& options);
void add_openai_routes(Router& router, Service& service, const RouteOptions& options);
void add_anthropic_routes(Router& router, Service& service, const RouteOptions& options);
void add_prefix_routes(Router& router, Service& service, const RouteOptions& options);
void add_status_routes(Router& router, Service& service, const RouteOptions& options);

// The whole server without its sockets.
class Application {
public:
    Application(Service& service, RouteOptions options);
    HttpReply handle(const HttpRequest& request) const;  // any number of threads

private:
    RouteOptions options_;
    Access access_;
    Router router_;
};

}  // namespace hypura::server
