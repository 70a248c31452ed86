// Chooses the raw reader.
#include "storage/raw_readers.h"

namespace hypura::storage {
namespace {

Status check_options(const ReaderOptions& options) {
    if (options.queue_depth == 0) return fail(ErrorCode::kInvalidArgument, "the read queue depth must be at least 1");
    if (options.threads == 0) return fail(ErrorCode::kInvalidArgument, "the number of read threads must be at least 1");
    return {};
}

Result<std::unique_ptr<RawReader>> make_best_reader(const ReaderOptions& options) {
    auto uring = make_uring_reader(options);
    if (uring || uring.error().code != ErrorCode::kUnsupportedHost) return uring;
    return make_pread_reader(options.threads);
}

}  // namespace

Result<std::unique_ptr<RawReader>> make_raw_reader(const ReaderOptions& options) {
    HYPURA_TRY(check_options(options));
    switch (options.kind) {
        case ReaderKind::kUring:
            return make_uring_reader(options);
        case ReaderKind::kPread:
            return make_pread_reader(options.threads);
        case ReaderKind::kAuto:
            break;
    }
    return make_best_reader(options);
}

}  // namespace hypura::storage
