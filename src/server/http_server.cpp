#include "server/http_server.h"

#include <httplib.h>

#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <charconv>

namespace hypura::server {
namespace {

// A connection holds a thread while it is answered: everyone who may wait, and some for those who only ask.
constexpr size_t kThreads = 16;
constexpr size_t kMostThreads = 1024;
constexpr size_t kMostBodyBytes = size_t{256} << 20U;
// How long a connection may stay idle between requests. Longer than clients keep theirs in their pools (5 seconds in
// Python's httpx, 15 in aiohttp): whoever closes first decides whether a request meets a closed connection.
constexpr time_t kIdleSeconds = 75;
constexpr time_t kTransferSeconds = 60;

std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

HttpRequest to_request(const httplib::Request& from, const std::atomic<bool>& stopping) {
    HttpRequest request{.method = from.method, .path = from.path};
    for (const auto& [name, value] : from.headers) request.headers.emplace(lower(name), value);
    for (const auto& [name, value] : from.params) request.query.emplace(name, value);
    request.client_gone = [closed = from.is_connection_closed, &stopping] { return stopping || closed(); };
    return request;
}

// One call of cpp-httplib for each piece; false ends the connection.
bool send_next(BodyStream& stream, httplib::DataSink& sink) {
    std::string bytes;
    const bool more = stream.next(bytes);
    if (!bytes.empty() && !sink.write(bytes.data(), bytes.size())) return false;
    if (!more) {
        sink.done();
        return true;
    }
    return sink.is_writable();
}

void fill(const HttpReply& from, httplib::Response& to) {
    to.status = from.status;
    for (const auto& [name, value] : from.headers) to.set_header(name, value);
    if (!from.stream) return to.set_content(from.body, from.content_type);
    to.set_chunked_content_provider(from.content_type, [stream = from.stream](size_t, httplib::DataSink& sink) {
        return send_next(*stream, sink);
    });
}

// cpp-httplib compresses JSON for whoever accepts it, and a compressor holds back the few bytes that say "still here".
// It has no switch for this; what the client accepts is the one thing that it asks. (The request is its own, not
// constant.)
void refuse_compression(const httplib::Request& request) {
    const_cast<httplib::Request&>(request).headers.erase("Accept-Encoding");
}

Result<int> parse_port(std::string_view text) {
    int port = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc() || rest != text.data() + text.size() || port < 0 || port > 65535)
        return fail(ErrorCode::kInvalidArgument, "'{}' is not a port", text);
    return port;
}

}  // namespace

Result<ListenAddress> parse_address(std::string_view text) {
    ListenAddress address;
    for (const std::string_view scheme : {"http://", "https://"})
        if (text.starts_with(scheme)) text.remove_prefix(scheme.size());
    text = text.substr(0, text.find('/'));
    const size_t bracket = text.find(']');
    const size_t colon = text.find(':', bracket == std::string_view::npos ? 0 : bracket);
    const bool bare_ipv6 = bracket == std::string_view::npos && std::ranges::count(text, ':') > 1;
    if (colon != std::string_view::npos && !bare_ipv6) {
        HYPURA_ASSIGN(address.port, parse_port(text.substr(colon + 1)));
        text = text.substr(0, colon);
    }
    if (bracket != std::string_view::npos) text = text.substr(1, bracket - 1);
    if (!text.empty()) address.host = text;
    return address;
}

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

struct HttpServer::State {
    std::atomic<bool> stopping{false};  // whoever waits for a first byte need not (streams end by themselves)
    httplib::Server server;
    ListenAddress address;
};

HttpServer::HttpServer(Handle handle) : state_(std::make_unique<State>()) {
    httplib::Server& server = state_->server;
    server.new_task_queue = [] { return new httplib::ThreadPool(kThreads, kMostThreads); };
    server.set_payload_max_length(kMostBodyBytes);
    server.set_keep_alive_timeout(kIdleSeconds);
    server.set_read_timeout(kTransferSeconds);
    server.set_write_timeout(kTransferSeconds);
    server.set_tcp_nodelay(true);
    // cpp-httplib would set SO_REUSEPORT: a second server on the same port would start, and get every other request.
    server.set_socket_options([](int socket) {
        const int on = 1;
        ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    });
    const auto answer = [handle = std::move(handle)](const httplib::Request& from, const HttpRequest& request,
                                                     httplib::Response& response) {
        fill(handle(request), response);
        refuse_compression(from);
    };
    const auto serve = [answer, &stopping = state_->stopping](const httplib::Request& request,
                                                              httplib::Response& response) {
        answer(request, to_request(request, stopping), response);
    };
    const auto refuse_body = [answer, &stopping = state_->stopping](const httplib::Request& request,
                                                                    httplib::Response& response, int status) {
        HttpRequest without = to_request(request, stopping);
        without.body_status = status;
        answer(request, without, response);
    };
    // cpp-httplib would read bodies by itself, and refuse those of curl -d (which says that it sends a form) from 8 KiB
    // on.
    const auto serve_body = [answer, refuse_body, &stopping = state_->stopping](const httplib::Request& request,
                                                                                httplib::Response& response,
                                                                                const httplib::ContentReader& read) {
        HttpRequest whole = to_request(request, stopping);
        const bool complete = read([&whole](const char* data, size_t bytes) {
            whole.body.append(data, bytes);
            return true;
        });
        if (!complete) return refuse_body(request, response, response.status == 413 ? 413 : 400);
        answer(request, whole, response);
    };
    // It also empties its own 413, whatever the handler has said.
    server.set_error_handler([refuse_body](const httplib::Request& request, httplib::Response& response) {
        if (response.status == 413 && response.body.empty()) refuse_body(request, response, 413);
    });
    server.Get(".*", serve)
        .Post(".*", serve_body)
        .Put(".*", serve_body)
        .Patch(".*", serve_body)
        .Delete(".*", serve_body)
        .Delete(".*", serve)
        .Options(".*", serve);
    server.set_exception_handler([](const httplib::Request&, httplib::Response& response, std::exception_ptr) {
        response.status = 500;
        response.set_content(R"({"error":"internal error"})", "application/json; charset=utf-8");
    });
}

HttpServer::~HttpServer() = default;

Result<int> HttpServer::bind(const ListenAddress& address) {
    state_->address = address;
    httplib::Server& server = state_->server;
    // Many resolvers put ::1 first, and most clients say 127.0.0.1.
    if (address.host == "localhost") server.set_address_family(AF_INET);
    int port = address.port;
    const bool bound =
        port == 0 ? (port = server.bind_to_any_port(address.host)) > 0 : server.bind_to_port(address.host, port);
    if (!bound)
        return fail(ErrorCode::kInvalidArgument, "cannot listen on {}:{}: the address is taken or not this machine's",
                    address.host, address.port);
    return port;
}

Status HttpServer::serve() {
    if (!state_->server.listen_after_bind()) return fail(ErrorCode::kInternal, "the HTTP server ended unexpectedly");
    return {};
}

void HttpServer::stop() {
    state_->stopping = true;
    state_->server.wait_until_ready();  // before that, stopping would be forgotten
    state_->server.stop();
}

}  // namespace hypura::server
