#include "base/status.h"

#include <cerrno>
#include <system_error>

namespace hypura {
namespace {

ErrorCode code_from_errno(int errno_value) {
    switch (errno_value) {
        case ENOENT:
        case ENOTDIR:
            return ErrorCode::kNotFound;
        case EACCES:
        case EPERM:
            return ErrorCode::kPermissionDenied;
        case EISDIR:
            return ErrorCode::kNotAFile;
        case ENOMEM:
            return ErrorCode::kOutOfMemory;
        case EINVAL:
            return ErrorCode::kInvalidArgument;
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
            return ErrorCode::kDiskFull;
        default:
            return ErrorCode::kReadFailed;
    }
}

std::string_view remedy(int errno_value) {
    if (errno_value == EFBIG) return " for the file system or for ulimit -f; choose another folder";
    if (code_from_errno(errno_value) == ErrorCode::kDiskFull) return "; free some space or choose another folder";
    return "";
}

}  // namespace

Error error_from_errno(int errno_value, std::string_view action, std::string_view subject) {
    return {code_from_errno(errno_value),
            std::format("{}: cannot {}: {}{}", subject, action, std::generic_category().message(errno_value),
                        remedy(errno_value))};
}

std::string_view to_string(ErrorCode code) {
    switch (code) {
        case ErrorCode::kInvalidArgument:
            return "invalid_argument";
        case ErrorCode::kNotFound:
            return "not_found";
        case ErrorCode::kNotAFile:
            return "not_a_file";
        case ErrorCode::kPermissionDenied:
            return "permission_denied";
        case ErrorCode::kNotGguf:
            return "not_gguf";
        case ErrorCode::kCorruptModel:
            return "corrupt_model";
        case ErrorCode::kUnsupportedModel:
            return "unsupported_model";
        case ErrorCode::kModelChanged:
            return "model_changed";
        case ErrorCode::kReadFailed:
            return "read_failed";
        case ErrorCode::kDeviceLost:
            return "device_lost";
        case ErrorCode::kDiskFull:
            return "disk_full";
        case ErrorCode::kBudgetTooSmall:
            return "budget_too_small";
        case ErrorCode::kOutOfMemory:
            return "out_of_memory";
        case ErrorCode::kUnsupportedHost:
            return "unsupported_host";
        case ErrorCode::kCancelled:
            return "cancelled";
        case ErrorCode::kMismatch:
            return "mismatch";
        case ErrorCode::kInternal:
            return "internal";
    }
    return "unknown";
}

}  // namespace hypura
