// Who may talk to the server: browsers' origins, host names (against DNS rebinding), an optional key.
#pragma once

#include "server/http_types.h"

#include <optional>
#include <string>
#include <vector>

namespace hypura::server {

struct AccessOptions {
    std::vector<std::string> origins;  // more than the built-in ones; '*' stands for any text
    bool loopback_only = true;         // bound to a loopback address: Host must then be a local name
    std::string api_key;               // empty: none is asked for
};

class Access {
public:
    explicit Access(AccessOptions options);

    // What to answer instead of serving the request: preflights, 403 for a foreign origin or host, 401 for a wrong key
    // (without the body, whose form depends on the dialect).
    std::optional<HttpReply> refuse_or_preflight(const HttpRequest& request) const;
    // CORS headers of an answer to `request`.
    void add_headers(const HttpRequest& request, HttpReply& reply) const;

    bool origin_allowed(const std::string& origin) const;
    bool host_allowed(const std::string& host) const;

private:
    bool key_accepted(const HttpRequest& request) const;

    AccessOptions options_;
};

}  // namespace hypura::server
