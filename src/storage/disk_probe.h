// What a disk gives: bandwidth and latency of direct reads by request size and queue depth, measured on a file of it.
//
// The same raw reader, memory and alignment that streaming uses, so the figures are those that the engine will see and
// not those of another tool. Two things are proven on the way and reported, because a figure is worth nothing without
// them: that direct reads return the file's true bytes, and that the page cache did not answer in the disk's place.
#pragma once

#include "base/status.h"
#include "storage/reader.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace hypura::storage {

// One cell of the table: `queue_depth` reads of `request_bytes` kept in flight at random places of the file.
struct DiskCell {
    uint32_t request_bytes = 0;
    uint32_t queue_depth = 1;
    bool operator==(const DiskCell&) const = default;
};

struct DiskPoint {
    DiskCell cell;
    double bytes_per_second = 0;
    double reads_per_second = 0;
    int64_t median_us = 0;  // from the submission of a read until its completion was seen
    int64_t p99_us = 0;
    uint64_t reads = 0;  // that the figures rest on
};

struct DiskProbeOptions {
    ReaderKind kind = ReaderKind::kAuto;
    std::vector<DiskCell> cells;       // empty: standard_cells()
    int64_t cell_us = 150'000;         // time spent on a cell in one round; a read that takes longer is waited for
    uint32_t rounds = 2;               // all cells once, then all again: the median of the rounds is reported
    uint64_t file_bytes = 512u << 20;  // of the file that is made where `path` names a folder
    std::function<void(size_t done, size_t total)> on_cell;  // may be empty
};

// 4 KiB to 4 MiB, depths 1 to 32: about 6 s with the default times.
std::vector<DiskCell> standard_cells();

struct DiskProbe {
    std::string path;              // as given
    bool made_file = false;        // `path` was a folder: read was a file that had just been written
    uint64_t file_bytes = 0;       // of the file that was read
    std::string reader;            // "io_uring", "pread"
    bool direct = false;           // O_DIRECT; otherwise every figure is of buffered reads
    uint32_t alignment_bytes = 1;  // that direct reads need
    uint64_t compared_bytes = 0;   // read directly and through the page cache, and found equal; 0 when not direct
    // Of the file, in the page cache, before and after the measurement; empty where the kernel does not tell.
    std::optional<uint64_t> cached_before_bytes;
    std::optional<uint64_t> cached_after_bytes;
    std::vector<DiskPoint> points;  // one a cell, in the order asked; cells larger than the file are left out

    // Proven: direct, and nearly nothing of the file was in the page cache at either end.
    bool bypasses_page_cache() const;
};

// Bytes of the file behind `fd` that are in the page cache: cachestat (Linux 6.5), else mincore, which tells only about
// files that we may write. Empty where neither answers.
std::optional<uint64_t> cached_bytes(int fd, uint64_t file_bytes);

// Measures on the file `path`, or in the folder `path` on a file of random bytes that is removed again. Drops the file
// from the page cache first (only clean pages that nobody maps). Errors: those of opening; kReadFailed when a read
// fails or direct reads return other bytes than buffered ones; kInvalidArgument for a file too small to measure, or a
// folder whose disk has no room.
Result<DiskProbe> probe_disk(const std::string& path, const DiskProbeOptions& options = {});

// A quick look at the disk under the file `path`, for who has no profile of it: a few cells, once, in about 0.1 s.
// Nothing is proven and the page cache is left as it is, so the figures may be better than the disk's own.
// kUnsupportedHost where reads would not be direct; otherwise the errors of probe_disk.
Result<std::vector<DiskPoint>> glance_at_disk(const std::string& path);

// The bandwidth of `points` at any request size and depth: log-linear between measured ones, the nearest one outside. 0
// without points.
double bandwidth_at(const std::vector<DiskPoint>& points, double request_bytes, double queue_depth);

}  // namespace hypura::storage
