// A RawReader that fails on purpose, for tests and for `--fault` of the command line's hidden test options.
#pragma once

#include "storage/reader.h"

namespace hypura::storage {

enum class FaultKind { kIoError, kShortRead, kInterrupted, kEndOfFile };

struct FaultPlan {
    uint64_t nth = 0;         // the read to fail, counted from 1; 0 fails none
    FaultKind kind = FaultKind::kIoError;
    bool permanent = false;   // fail that file range again and again, instead of once
};

// Parses "N:eio|short|eintr|eof[:permanent]".
Result<FaultPlan> parse_fault_plan(std::string_view text);

std::unique_ptr<RawReader> make_fault_reader(std::unique_ptr<RawReader> inner, const FaultPlan& plan);

}  // namespace hypura::storage
