// What a client is told when something is wrong: an HTTP status and a sentence. Each dialect dresses it its own way.
//
// The texts of well-known errors are matched by clients ("not found", "does not support tools", ...): they are made
// here, once, and must not be reworded.
#pragma once

#include "base/status.h"

#include <cstdint>
#include <expected>
#include <string>

namespace hypura::server {

struct ApiError {
    int status = 500;
    std::string message;
    uint64_t prompt_tokens = 0;   // only when the prompt exceeds the context
    uint64_t context_tokens = 0;  // likewise

    ApiError() = default;
    ApiError(int with_status, std::string text) : status(with_status), message(std::move(text)) {}
    ApiError(const Error& error);  // NOLINT: the one translation of ErrorCode into a status, meant to be implicit
};

template <class T>
using ApiResult = std::expected<T, ApiError>;
using ApiStatus = std::expected<void, ApiError>;

template <class... Args>
[[nodiscard]] std::unexpected<ApiError> refuse(int status, std::format_string<Args...> format, Args&&... args) {
    return std::unexpected(ApiError(status, std::format(format, std::forward<Args>(args)...)));
}

ApiError model_not_found(std::string_view name);
ApiError does_not_support(std::string_view name, std::string_view what);  // "tools", "thinking", "insert", ...
ApiError context_exceeded(uint64_t prompt_tokens, uint64_t context_tokens);
ApiError queue_full();

}  // namespace hypura::server
