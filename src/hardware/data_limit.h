// A limit on the memory that this process may ask for, for a while: what would exceed it fails at once, instead of
// being taken and filled until the kernel ends the process.
#pragma once

#include <sys/resource.h>

#include <cstdint>

namespace hypura::hardware {

// While it lives, requests for memory fail that would bring the process's address space for data
// (ProcessMemory::data_bytes) above the limit. It holds for all threads, so keep it short. A lower limit that the
// process has already stays.
class DataLimit {
public:
    explicit DataLimit(uint64_t bytes);
    DataLimit(const DataLimit&) = delete;
    DataLimit& operator=(const DataLimit&) = delete;
    ~DataLimit();

private:
    rlimit before_{};
    bool changed_ = false;
};

}  // namespace hypura::hardware
