#include "server/api_error.h"

namespace hypura::server {
namespace {

int http_status(ErrorCode code) {
    switch (code) {
        case ErrorCode::kInvalidArgument:
        case ErrorCode::kNotAFile:
        case ErrorCode::kNotGguf:
        case ErrorCode::kUnsupportedModel:
            return 400;
        case ErrorCode::kNotFound:
            return 404;
        case ErrorCode::kCancelled:
            return 499;
        case ErrorCode::kPermissionDenied:
        case ErrorCode::kCorruptModel:
        case ErrorCode::kModelChanged:
        case ErrorCode::kReadFailed:
        case ErrorCode::kBudgetTooSmall:
        case ErrorCode::kOutOfMemory:
        case ErrorCode::kUnsupportedHost:
        case ErrorCode::kMismatch:
        case ErrorCode::kDiskFull:
        case ErrorCode::kDeviceLost:
        case ErrorCode::kInternal:
            break;
    }
    return 500;
}

}  // namespace

ApiError::ApiError(const Error& error) : status(http_status(error.code)), message(error.message) {}

ApiError model_not_found(std::string_view name) { return {404, std::format("model '{}' not found", name)}; }

ApiError does_not_support(std::string_view name, std::string_view what) {
    return {400, std::format("{} does not support {}", name, what)};
}

ApiError context_exceeded(uint64_t prompt_tokens, uint64_t context_tokens) {
    ApiError error(400,
                   std::format("request ({} tokens) exceeds the available context size ({} tokens), try increasing it",
                               prompt_tokens, context_tokens));
    error.prompt_tokens = prompt_tokens;
    error.context_tokens = context_tokens;
    return error;
}

// Two blanks, as in the original: somebody compares the whole text.
ApiError queue_full() { return {503, "server busy, please try again.  maximum pending requests exceeded"}; }

}  // namespace hypura::server
