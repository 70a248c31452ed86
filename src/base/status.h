// The one error type of hypura.
//
// Everything that the outside world can do wrong (a missing file, a broken model, a full disk, a wrong option) is
// returned as Result<T> or Status; mistakes of our own are HYPURA_CHECK (check.h). Libraries never print an error and
// never exit: the command line turns an ErrorCode into an exit code (cli/exit_codes.h), the server into a response.
#pragma once

#include <expected>
#include <format>
#include <string>
#include <string_view>
#include <utility>

namespace hypura {

enum class ErrorCode {
    kInvalidArgument,   // an option or a request that cannot mean anything
    kNotFound,          // no such file, model, split part or device
    kNotAFile,          // a directory, socket or device where a model file was expected
    kPermissionDenied,  // the path exists and may not be read
    kNotGguf,           // the file does not begin as a GGUF file
    kCorruptModel,      // it is GGUF, but its counts, offsets or lengths contradict the file
    kUnsupportedModel,  // well formed, but libllama or this mode cannot run it
    kModelChanged,      // the file was truncated or replaced while it was open
    kReadFailed,        // the device failed a read for good
    kDiskFull,          // no room, or no quota, for what is being written
    kBudgetTooSmall,    // the memory budget cannot work; the message names the smallest one that can
    kOutOfMemory,       // the system refused an allocation
    kUnsupportedHost,   // the machine lacks something that the chosen mode needs
    kCancelled,         // the caller asked to stop
    kDeviceLost,        // a device, on this machine or another one, went away while it held weights
    kMismatch,          // `verify` found a difference
    kInternal,          // a third-party library failed in a way that it does not explain
};

// What exactly is wrong with a model file, where scripts act on it (a truncated file is downloaded on, a missing part
// fetched). The code says how to treat the error; this only refines the program's exit code.
enum class ModelFlaw {
    kUnspecified,
    kAbsurdCount,  // counts, lengths or dimensions that cannot be meant
    kTruncated,    // the file ends before what its header describes
    kMisaligned,   // a tensor begins where none may
    kOverlap,      // two tensors share bytes
    kMissingPart,  // of a split model
};

// What happened, on which file or option, and what to do about it, as one sentence for a person.
struct Error {
    ErrorCode code = ErrorCode::kInternal;
    std::string message;
    ModelFlaw flaw = ModelFlaw::kUnspecified;
};

template <class T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

// return fail(ErrorCode::kNotFound, "{}: no such file", path);
template <class... Args>
[[nodiscard]] std::unexpected<Error> fail(ErrorCode code, std::format_string<Args...> format, Args&&... args) {
    return std::unexpected(Error{code, std::format(format, std::forward<Args>(args)...)});
}

// return flawed(ModelFlaw::kOverlap, "{}: tensors {} and {} overlap", path, a, b);
template <class... Args>
[[nodiscard]] std::unexpected<Error> flawed(ModelFlaw flaw, std::format_string<Args...> format, Args&&... args) {
    const ErrorCode code = flaw == ModelFlaw::kMissingPart ? ErrorCode::kNotFound : ErrorCode::kCorruptModel;
    return std::unexpected(Error{code, std::format(format, std::forward<Args>(args)...), flaw});
}

// Translates `errno_value`, as left by a system call on `subject` (a path, say), into an Error.
// `action` completes the sentence "cannot ACTION".
[[nodiscard]] Error error_from_errno(int errno_value, std::string_view action, std::string_view subject);

// A stable lower-case name for logs and JSON: "budget_too_small".
std::string_view to_string(ErrorCode code);

}  // namespace hypura

// Returns from the enclosing function when `expression` (a Status or Result) holds an error.
#define HYPURA_TRY(expression)                                            \
    do {                                                                  \
        if (auto hypura_try_result = (expression); !hypura_try_result)    \
            return std::unexpected(std::move(hypura_try_result).error()); \
    } while (false)

// HYPURA_ASSIGN(auto file, open_model(path)); assigns the value or returns the error.
#define HYPURA_CONCAT_INNER(a, b) a##b
#define HYPURA_CONCAT(a, b) HYPURA_CONCAT_INNER(a, b)
#define HYPURA_ASSIGN(declaration, expression)                                              \
    auto HYPURA_CONCAT(hypura_result_, __LINE__) = (expression);                            \
    if (!HYPURA_CONCAT(hypura_result_, __LINE__))                                           \
        return std::unexpected(std::move(HYPURA_CONCAT(hypura_result_, __LINE__)).error()); \
    declaration = *std::move(HYPURA_CONCAT(hypura_result_, __LINE__))
