// The two implementations behind make_raw_reader. Internal to storage.
#pragma once

#include "storage/reader.h"

namespace hypura::storage {

// kUnsupportedHost when the kernel lacks io_uring or forbids it (containers often do), or hypura was built without it.
Result<std::unique_ptr<RawReader>> make_uring_reader(const ReaderOptions& options);

Result<std::unique_ptr<RawReader>> make_pread_reader(uint32_t threads);

}  // namespace hypura::storage
