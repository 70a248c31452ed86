// Sockets: the only file that knows cpp-httplib.
#pragma once

#include "base/status.h"
#include "server/http_types.h"

#include <functional>
#include <memory>
#include <string>

namespace hypura::server {

struct ListenAddress {
    std::string host = "127.0.0.1";
    int port = 11434;
};

// "", "host", ":port", "host:port", "http://host:port/", "[::1]:port"; what is missing is the default.
Result<ListenAddress> parse_address(std::string_view text);
bool is_loopback(const std::string& host);

class HttpServer {
public:
    using Handle = std::function<HttpReply(const HttpRequest&)>;  // called from any number of threads
    explicit HttpServer(Handle handle);
    ~HttpServer();

    // Port 0 takes any free one. Returns the port. Errors: kInvalidArgument, naming the address, when it is taken.
    Result<int> bind(const ListenAddress& address);
    // Serves until stop() is called.
    Status serve();
    // Any thread, any number of times; waits for serve() to begin, which must have been called or follow.
    void stop();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace hypura::server
