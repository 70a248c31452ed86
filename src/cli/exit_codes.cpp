#include "cli/exit_codes.h"

namespace hypura::cli {

int exit_code(ErrorCode code) {
    switch (code) {
        case ErrorCode::kInternal:
            return kExitInternal;
        case ErrorCode::kInvalidArgument:
            return 2;
        case ErrorCode::kNotFound:
            return 3;
        case ErrorCode::kNotAFile:
            return 4;
        case ErrorCode::kPermissionDenied:
            return 5;
        case ErrorCode::kNotGguf:
            return 6;
        case ErrorCode::kCorruptModel:
            return 7;
        case ErrorCode::kUnsupportedModel:
            return 8;
        case ErrorCode::kModelChanged:
            return 9;
        case ErrorCode::kReadFailed:
            return 10;
        case ErrorCode::kBudgetTooSmall:
            return 11;
        case ErrorCode::kOutOfMemory:
            return 12;
        case ErrorCode::kUnsupportedHost:
            return 13;
        case ErrorCode::kMismatch:
            return 14;
        case ErrorCode::kDiskFull:
            return 15;
        case ErrorCode::kDeviceLost:
            return 16;
        case ErrorCode::kCancelled:
            return 130;  // what a shell reports for a program that Ctrl-C ended
    }
    return kExitInternal;
}

int exit_code(const Error& error) {
    switch (error.flaw) {
        case ModelFlaw::kUnspecified:
            break;
        case ModelFlaw::kAbsurdCount:
            return 17;
        case ModelFlaw::kTruncated:
            return 18;
        case ModelFlaw::kMisaligned:
            return 19;
        case ModelFlaw::kOverlap:
            return 20;
        case ModelFlaw::kMissingPart:
            return 21;
    }
    return exit_code(error.code);
}

}  // namespace hypura::cli
