// HTTP as the routes see it: plain values, so that everything but http_server.cpp can be tested without a socket.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hypura::server {

struct HttpRequest {
    std::string method;                               // upper case
    std::string path;                                 // percent-decoded, without the query
    std::multimap<std::string, std::string> headers;  // names in lower case
    std::multimap<std::string, std::string> query;
    std::string body;
    int body_status = 0;  // 413 or 400: the body is not here, since it is too large or broke off; 0: it is whole
    std::function<bool()> client_gone = [] { return false; };

    std::string header(const std::string& lower_case_name) const {
        const auto entry = headers.find(lower_case_name);
        return entry == headers.end() ? std::string() : entry->second;
    }
};

// A body whose bytes are not known yet. Called from one thread; destroyed when the client has got everything or is
// gone.
class BodyStream {
public:
    virtual ~BodyStream() = default;
    // Waits a moment (some 50 ms) for bytes and appends them to `bytes`, perhaps none; false after the last ones.
    virtual bool next(std::string& bytes) = 0;
};

struct HttpReply {
    int status = 200;
    std::string content_type = "application/json; charset=utf-8";
    std::string body;
    std::shared_ptr<BodyStream> stream;  // instead of `body`
    std::vector<std::pair<std::string, std::string>> headers;
};

}  // namespace hypura::server
