// Asynchronous reads from model files into memory: the one read path of the program.
//
//   RawReader        one kernel operation a request: io_uring (uring_reader) or a pool of pread threads (pread_reader);
//                    FaultReader wraps either for tests
//   BlockReader      whole-or-failed reads of arbitrary ranges on top of a RawReader: alignment, short reads, retries
//
// Rule that everything above relies on: a completion without an error means that every requested byte is in place; any
// other outcome names file, offset and reason. Counters add what the kernel returned, never what was asked for.
#pragma once

#include "base/status.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace hypura::storage {

// ---- raw operations ------------------------------------------------------------------------------------------------

struct RawRead {
    int fd = -1;
    uint64_t offset = 0;
    std::byte* destination = nullptr;
    uint32_t bytes = 0;
    uint64_t tag = 0;     // returned with the completion; unique among the reads in flight
    bool behind = false;  // begins, with those submitted after it, when all before it are done (io_uring)
};

struct RawCompletion {
    uint64_t tag = 0;
    int64_t result = 0;  // bytes read (0 at the end of the file), or -errno
};

// Not thread-safe: one thread submits and collects. Reads make progress while that thread computes, without any call.
// Destruction drops reads that have not begun and waits for those in the kernel, so that no write can land in freed
// memory. An error of submit or collect means that the reader is broken for good, not that one read failed.
class RawReader {
public:
    virtual ~RawReader() = default;
    // Queues the reads and lets the kernel begin; never blocks for a completion. Reads past the queue depth wait inside
    // the reader, in order.
    virtual Status submit(std::span<const RawRead> reads) = 0;
    // Appends finished reads to `out`. With `block`, waits for at least one if any is in flight.
    virtual Status collect(std::vector<RawCompletion>& out, bool block) = 0;
    virtual size_t in_flight() const = 0;
    virtual std::string_view name() const = 0;  // "io_uring", "pread"
};

enum class ReaderKind { kAuto, kUring, kPread };

struct ReaderOptions {
    ReaderKind kind = ReaderKind::kAuto;  // kAuto: io_uring where the kernel allows it, else pread threads
    uint32_t queue_depth = 256;           // reads in the kernel at a time
    uint32_t lanes = 2;                   // of those submitted together, how many run side by side (io_uring; 0: all)
    uint32_t threads = 4;                 // of the pread pool
    // A blocking collect() looks for completions again and again for so long before it sleeps (io_uring), so that no
    // core has to wake up first. Costs a core meanwhile.
    uint32_t poll_us = 0;
};

// A forced kind that the host does not allow is kUnsupportedHost; kAuto never fails for that reason.
Result<std::unique_ptr<RawReader>> make_raw_reader(const ReaderOptions& options);

// ---- model files opened for direct reads ---------------------------------------------------------------------------

// One file opened for streaming. `direct` says whether reads bypass the page cache (O_DIRECT): where the filesystem
// refuses that, reads are buffered, and the caller reports it.
class DirectFile {
public:
    // Opens `path`, asks statx for the alignment that direct reads need (4096 where the kernel does not say), and
    // proves direct reading by comparing the first block with a buffered read of it. Where that fails, or the alignment
    // exceeds half of BlockReader::kSlackBytes, reads are buffered. Not a regular file: kNotAFile.
    static Result<DirectFile> open(const std::string& path);

    DirectFile(DirectFile&&) noexcept;
    DirectFile& operator=(DirectFile&&) noexcept;
    ~DirectFile();

    int fd() const;
    bool direct() const;
    uint32_t offset_alignment() const;  // file offsets and lengths; a power of two; 1 when buffered
    uint32_t memory_alignment() const;  // destinations; a power of two; 1 when buffered
    uint64_t size_bytes() const;        // at opening
    const std::string& path() const;

private:
    struct State;
    explicit DirectFile(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

// ---- whole-or-failed block reads -----------------------------------------------------------------------------------

// Wants file bytes [offset, offset + bytes) at `destination`. The reader may also write the rest of the aligned window
// around them: the caller owns [destination - slack, destination + bytes + slack) with slack =
// BlockReader::kSlackBytes. No copy is made when destination and offset are congruent modulo the alignments; otherwise
// the window begins at the next lower aligned address, inside the slack, and is moved up into place once all of it is
// there. So two outstanding blocks must be at least the slack apart in memory.
struct BlockRead {
    uint32_t file = 0;  // index into the reader's files
    uint64_t offset = 0;
    uint64_t bytes = 0;
    std::byte* destination = nullptr;
    uint64_t tag = 0;
    std::string_view what;  // names the tensor in an error; must outlive the read
    bool behind = false;    // as in RawRead: what comes before is more urgent
};

struct BlockCompletion {
    uint64_t tag = 0;
    Status status;  // an error names file, offset, tensor and reason
};

struct ReadCounters {
    uint64_t reads = 0;     // kernel operations that returned
    uint64_t bytes = 0;     // that the kernel returned
    uint64_t retries = 0;   // operations repeated after a transient error or a short read
    uint64_t failures = 0;  // blocks given up
    int64_t busy_us = 0;    // wall time with at least one block outstanding
};

// Not thread-safe. Transient errors (EINTR, EAGAIN, short reads) are retried up to 8 times without progress, EIO and an
// early end of the file twice. A block completes, failed or not, only when the kernel has returned all of its pieces.
// Large blocks are cut into pieces of `piece_bytes` that are read side by side.
class BlockReader {
public:
    static constexpr uint64_t kSlackBytes = 8192;

    BlockReader(std::unique_ptr<RawReader> raw, std::vector<DirectFile> files, uint32_t piece_bytes = 1u << 20);
    ~BlockReader();  // waits for reads in flight
    BlockReader(const BlockReader&) = delete;

    // Never waits. A block outside the file, as it was at opening, completes with kCorruptModel.
    Status submit(std::span<const BlockRead> blocks);
    // Appends finished blocks to `out`. With `block`, waits until at least one block finished, if any is outstanding.
    Status collect(std::vector<BlockCompletion>& out, bool block);

    size_t outstanding() const;  // blocks submitted and not yet collected
    const ReadCounters& counters() const;
    const std::vector<DirectFile>& files() const;
    std::string_view raw_name() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

// Reads one range and waits: for start-up and tools. The same rules as above; nothing else may be outstanding, since
// its completion would be lost here.
Status read_now(BlockReader& reader, const BlockRead& block);

}  // namespace hypura::storage
