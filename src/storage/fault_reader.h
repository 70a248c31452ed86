// A RawReader that fails on purpose, for tests and for `--fault` of the command line's hidden test options.
#pragma once

#include "storage/reader.h"

namespace hypura::storage {

enum class FaultKind {
    kIoError,      // -EIO
    kShortRead,    // about half of the bytes; the rest of the destination is overwritten with garbage
    kInterrupted,  // -EINTR
    kEndOfFile,    // 0 bytes
    kSlow,         // nothing fails, but from the nth on each read takes delay_us longer, one after another
};

struct FaultPlan {
    uint64_t nth = 0;  // the read to fail, counted from 1; 0 fails none
    FaultKind kind = FaultKind::kIoError;
    // Instead of once, fail every read that overlaps the file range of the first failure. A permanent short read never
    // gets past the middle of that range.
    bool permanent = false;
    int64_t delay_us = 0;  // kSlow
};

// Parses "N:eio|short|eintr|eof[:permanent]" and "N:slow:MILLISECONDS".
Result<FaultPlan> parse_fault_plan(std::string_view text);

std::unique_ptr<RawReader> make_fault_reader(std::unique_ptr<RawReader> inner, const FaultPlan& plan);

}  // namespace hypura::storage
