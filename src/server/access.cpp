#include "server/access.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace hypura::server {
namespace {

constexpr std::array kBuiltInOrigins = {
    "http://localhost",  "https://localhost",  "http://localhost:*",  "https://localhost:*", "http://127.0.0.1",
    "https://127.0.0.1", "http://127.0.0.1:*", "https://127.0.0.1:*", "http://0.0.0.0",      "https://0.0.0.0",
    "http://0.0.0.0:*",  "https://0.0.0.0:*",  "http://[::1]",        "http://[::1]:*",      "app://*",
    "file://*",          "tauri://*",          "vscode-webview://*",  "vscode-file://*"};

constexpr std::string_view kAllowedHeaders =
    "Authorization, Content-Type, User-Agent, Accept, X-Requested-With, OpenAI-Beta, x-api-key, anthropic-version, "
    "anthropic-beta, anthropic-dangerous-direct-browser-access, x-stainless-arch, x-stainless-async, "
    "x-stainless-custom-poll-interval, x-stainless-helper-method, x-stainless-lang, x-stainless-os, "
    "x-stainless-package-version, x-stainless-poll-helper, x-stainless-retry-count, x-stainless-runtime, "
    "x-stainless-runtime-version, x-stainless-timeout";

// `pattern` may hold any number of '*'.
bool matches(std::string_view pattern, std::string_view text) {
    const size_t star = pattern.find('*');
    if (star == std::string_view::npos) return pattern == text;
    if (!text.starts_with(pattern.substr(0, star))) return false;
    const std::string_view rest = pattern.substr(star + 1);
    for (size_t i = star; i <= text.size(); ++i)
        if (matches(rest, text.substr(i))) return true;
    return false;
}

std::string without_port(const std::string& host) {
    if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
    return host.substr(0, host.rfind(':'));
}

// 10.x, 172.16-31.x, 192.168.x, 127.x
bool is_private_address(const std::string& host) {
    if (!std::ranges::all_of(host, [](unsigned char c) { return std::isdigit(c) != 0 || c == '.'; })) return false;
    if (host.starts_with("10.") || host.starts_with("127.") || host.starts_with("192.168.")) return true;
    if (!host.starts_with("172.")) return false;
    const int second = std::atoi(host.c_str() + 4);
    return second >= 16 && second <= 31;
}

std::string bearer(const HttpRequest& request) {
    const std::string header = request.header("authorization");
    constexpr std::string_view kScheme = "Bearer ";
    return header.starts_with(kScheme) ? header.substr(kScheme.size()) : request.header("x-api-key");
}

bool is_public(const std::string& path) { return path == "/" || path == "/health" || path == "/v1/health"; }

}  // namespace

Access::Access(AccessOptions options) : options_(std::move(options)) {}

bool Access::origin_allowed(const std::string& origin) const {
    const auto allows = [&origin](std::string_view pattern) { return matches(pattern, origin); };
    return std::ranges::any_of(kBuiltInOrigins, allows) || std::ranges::any_of(options_.origins, allows);
}

bool Access::host_allowed(const std::string& host) const {
    if (!options_.loopback_only || host.empty()) return true;
    const std::string name = without_port(host);
    if (name == "localhost" || name == "::1" || name == "0.0.0.0" || is_private_address(name)) return true;
    if (!name.contains('.')) return true;  // this machine's own name: no DNS answer of somebody else's
    return name.ends_with(".localhost") || name.ends_with(".local") || name.ends_with(".internal");
}

bool Access::key_accepted(const HttpRequest& request) const {
    return options_.api_key.empty() || is_public(request.path) || bearer(request) == options_.api_key;
}

std::optional<HttpReply> Access::refuse_or_preflight(const HttpRequest& request) const {
    const std::string origin = request.header("origin");
    if (!origin.empty() && !origin_allowed(origin)) return HttpReply{.status = 403, .content_type = "text/plain"};
    if (!host_allowed(request.header("host"))) return HttpReply{.status = 403, .content_type = "text/plain"};
    if (request.method == "OPTIONS") return HttpReply{.status = 204, .content_type = "text/plain"};
    if (!key_accepted(request)) return HttpReply{.status = 401};
    return std::nullopt;
}

void Access::add_headers(const HttpRequest& request, HttpReply& reply) const {
    const std::string origin = request.header("origin");
    if (origin.empty() || !origin_allowed(origin)) return;
    reply.headers.emplace_back("Access-Control-Allow-Origin", origin);
    reply.headers.emplace_back("Vary", "Origin");
    if (request.method != "OPTIONS") return;
    reply.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS");
    reply.headers.emplace_back("Access-Control-Allow-Headers", std::string(kAllowedHeaders));
    reply.headers.emplace_back("Access-Control-Max-Age", "43200");
}

}  // namespace hypura::server
