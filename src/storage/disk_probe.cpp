#include "storage/disk_probe.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/memory_region.h"
#include "base/unique_fd.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/syscall.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <set>

namespace hypura::storage {
namespace {

constexpr uint64_t kLeastFileBytes = 64 * kKiB;
constexpr uint64_t kCompareBlockBytes = 64 * kKiB;
constexpr uint32_t kCompareBlocks = 16;
constexpr uint32_t kMostDepth = 1024;

// ---- the file that is read -----------------------------------------------------------------------------------------

// The file and, where it was made for the purpose, the descriptor that keeps it alive without a name.
struct Target {
    std::string path;
    UniqueFd keeper;
    bool has_name = false;  // to be removed with it

    Target() = default;
    Target(const Target&) = delete;
    ~Target() {
        if (has_name) ::unlink(path.c_str());
    }
};

bool is_folder(const std::string& path) {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// Random bytes, so that no layer below can compress or merge them.
void fill_random(std::byte* data, uint64_t bytes, std::mt19937_64& random) {
    for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
        const uint64_t word = random();
        std::memcpy(data + i, &word, 8);
    }
}

Status write_random(int fd, uint64_t bytes, const std::string& folder) {
    constexpr uint64_t kChunkBytes = 4 * kMiB;
    HYPURA_ASSIGN(const MemoryRegion chunk, MemoryRegion::reserve(kChunkBytes));
    std::mt19937_64 random(now_us());
    for (uint64_t done = 0; done < bytes;) {
        const uint64_t wanted = std::min(kChunkBytes, bytes - done);
        fill_random(chunk.data(), wanted, random);
        const ssize_t written = ::pwrite(fd, chunk.data(), wanted, static_cast<off_t>(done));
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return std::unexpected(error_from_errno(errno, "write a file to measure in", folder));
        done += static_cast<uint64_t>(written);
    }
    if (::fsync(fd) != 0) return std::unexpected(error_from_errno(errno, "flush the file to measure in", folder));
    return {};
}

Status check_room(const std::string& folder, uint64_t bytes) {
    struct statvfs info{};
    if (::statvfs(folder.c_str(), &info) != 0) return std::unexpected(error_from_errno(errno, "examine", folder));
    const uint64_t room_bytes = static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
    if (room_bytes / 2 >= bytes) return {};
    return fail(ErrorCode::kInvalidArgument,
                "{}: {} free is too little for a test file of {}; name a large file instead", folder,
                format_bytes(room_bytes), format_bytes(bytes));
}

// On Linux the file loses its name at once, so that nothing is left behind however we end.
Status make_file(const std::string& folder, uint64_t bytes, Target& target) {
    HYPURA_TRY(check_room(folder, bytes));
    target.path = folder + "/.hypura-probe-XXXXXX";
    target.keeper = UniqueFd(::mkostemp(target.path.data(), O_CLOEXEC));
    if (!target.keeper.valid()) return std::unexpected(error_from_errno(errno, "make a file to measure in", folder));
    target.has_name = true;
#ifdef __linux__
    ::unlink(target.path.c_str());
    target.has_name = false;
    target.path = std::format("/proc/self/fd/{}", target.keeper.get());
#endif
    return write_random(target.keeper.get(), bytes, folder);
}

// ---- proofs --------------------------------------------------------------------------------------------------------

void drop_from_cache(int fd) {
#ifdef POSIX_FADV_DONTNEED
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
#else
    (void)fd;
#endif
}

std::optional<uint64_t> cached_by_cachestat([[maybe_unused]] int fd) {
#ifdef __linux__
    constexpr long kCachestat = 451;  // the same number on every architecture (asm-generic/unistd.h)
    struct Range {
        uint64_t offset, length;
    } range{0, 0};  // length 0: to the end
    struct Counts {
        uint64_t cached_pages, dirty, writeback, evicted, recently_evicted;
    } counts{};
    if (::syscall(kCachestat, fd, &range, &counts, 0) == 0)
        return counts.cached_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
#endif
    return std::nullopt;
}

// The kernel answers "all of it" about files that the caller could not write, so those are not asked about.
std::optional<uint64_t> cached_by_mincore([[maybe_unused]] int fd, [[maybe_unused]] uint64_t file_bytes) {
#ifdef __linux__
    struct stat info{};
    if (::fstat(fd, &info) != 0 || (info.st_uid != ::geteuid() && ::geteuid() != 0)) return std::nullopt;
    void* const mapping = ::mmap(nullptr, file_bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED) return std::nullopt;
    const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> pages((file_bytes + page_bytes - 1) / page_bytes);
    const bool answered = ::mincore(mapping, file_bytes, pages.data()) == 0;
    ::munmap(mapping, file_bytes);
    if (answered) return page_bytes * static_cast<uint64_t>(std::ranges::count_if(pages, [](auto p) { return p & 1; }));
#endif
    return std::nullopt;
}

// Reads blocks at random places both ways. The buffered descriptor is opened through the first one, so both are one
// file.
Result<uint64_t> compare_with_buffered(const DirectFile& file) {
    UniqueFd buffered(::open(file.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (!buffered.valid()) return std::unexpected(error_from_errno(errno, "open the file", file.path()));
    HYPURA_ASSIGN(const MemoryRegion memory, MemoryRegion::reserve(2 * kCompareBlockBytes));
    std::byte* const direct_bytes = memory.data();
    std::byte* const buffered_bytes = memory.data() + kCompareBlockBytes;
    std::mt19937_64 random(1);
    uint64_t compared_bytes = 0;
    for (uint32_t i = 0; i < kCompareBlocks; ++i) {
        const uint64_t places = std::max<uint64_t>(file.size_bytes() / kCompareBlockBytes, 1);
        const auto offset = static_cast<off_t>(random() % places * kCompareBlockBytes);
        const ssize_t directly = ::pread(file.fd(), direct_bytes, kCompareBlockBytes, offset);
        const ssize_t through_cache = ::pread(buffered.get(), buffered_bytes, kCompareBlockBytes, offset);
        if (directly < 0 || through_cache < 0)
            return std::unexpected(error_from_errno(errno, "compare direct and buffered reads of", file.path()));
        if (directly != through_cache || std::memcmp(direct_bytes, buffered_bytes, static_cast<size_t>(directly)) != 0)
            return fail(ErrorCode::kReadFailed, "{}: direct and buffered reads differ at offset {}", file.path(),
                        offset);
        compared_bytes += static_cast<uint64_t>(directly);
    }
    drop_from_cache(buffered.get());
    return compared_bytes;
}

// ---- measuring -----------------------------------------------------------------------------------------------------

// Keeps one cell's reads in flight for a while. One slot of memory a read in flight; the slot's number is the read's
// tag.
class CellRun {
public:
    CellRun(RawReader& reader, const DirectFile& file, const DiskCell& cell, std::byte* memory, std::mt19937_64& random)
        : reader_(reader), file_(file), cell_(cell), memory_(memory), random_(random), begun_us_(cell.queue_depth) {}

    Result<DiskPoint> run(int64_t cell_us) {
        const int64_t begin_us = now_us();
        for (uint32_t slot = 0; slot < cell_.queue_depth; ++slot) HYPURA_TRY(start(slot));
        HYPURA_TRY(keep_busy(begin_us + cell_us));
        const int64_t wall_us = std::max<int64_t>(now_us() - begin_us, 1);
        return point(wall_us);
    }

private:
    Status start(uint64_t slot) {
        const uint64_t places = (file_.size_bytes() - cell_.request_bytes) / cell_.request_bytes + 1;
        const RawRead read{file_.fd(), random_() % places * cell_.request_bytes, memory_ + slot * cell_.request_bytes,
                           cell_.request_bytes, slot};
        begun_us_[slot] = now_us();
        return reader_.submit(std::span(&read, 1));
    }

    // Reads that end after the deadline count too, as does the time that they took.
    Status keep_busy(int64_t deadline_us) {
        std::vector<RawCompletion> finished;
        while (reader_.in_flight() > 0) {
            finished.clear();
            HYPURA_TRY(reader_.collect(finished, true));
            for (const RawCompletion& read : finished) {
                HYPURA_TRY(count(read));
                if (now_us() < deadline_us) HYPURA_TRY(start(read.tag));
            }
        }
        return {};
    }

    Status count(const RawCompletion& read) {
        if (read.result < 0)
            return std::unexpected(error_from_errno(static_cast<int>(-read.result), "read", file_.path()));
        bytes_ += static_cast<uint64_t>(read.result);
        latencies_us_.push_back(now_us() - begun_us_[read.tag]);
        return {};
    }

    DiskPoint point(int64_t wall_us) {
        std::ranges::sort(latencies_us_);
        const auto at = [&](double share) {
            return latencies_us_[static_cast<size_t>(share * static_cast<double>(latencies_us_.size() - 1))];
        };
        const double seconds = static_cast<double>(wall_us) / 1e6;
        return {cell_,
                static_cast<double>(bytes_) / seconds,
                static_cast<double>(latencies_us_.size()) / seconds,
                at(0.5),
                at(0.99),
                latencies_us_.size()};
    }

    RawReader& reader_;
    const DirectFile& file_;
    DiskCell cell_;
    std::byte* memory_;
    std::mt19937_64& random_;
    std::vector<int64_t> begun_us_;
    std::vector<int64_t> latencies_us_;
    uint64_t bytes_ = 0;
};

bool measurable(const DiskCell& cell, const DirectFile& file) {
    return cell.request_bytes <= file.size_bytes() && is_aligned(cell.request_bytes, file.offset_alignment());
}

Status check_cells(const std::vector<DiskCell>& cells) {
    for (const DiskCell& cell : cells)
        if (cell.request_bytes == 0 || cell.queue_depth == 0 || cell.queue_depth > kMostDepth)
            return fail(ErrorCode::kInvalidArgument, "reads of {} bytes at queue depth {} cannot be measured",
                        cell.request_bytes, cell.queue_depth);
    return {};
}

uint64_t most_memory(const std::vector<DiskCell>& cells) {
    uint64_t bytes = 0;
    for (const DiskCell& cell : cells) bytes = std::max(bytes, uint64_t{cell.request_bytes} * cell.queue_depth);
    return bytes;
}

// Committed huge pages, as slots have: first touches must not be measured.
Result<MemoryRegion> read_memory(const std::vector<DiskCell>& cells) {
    const uint64_t bytes = most_memory(cells);
    HYPURA_ASSIGN(MemoryRegion memory, MemoryRegion::reserve(bytes));
    memory.advise_huge_pages(0, bytes);
    memory.commit(0, bytes);
    return memory;
}

// The round with the median bandwidth; of two the slower one, which no cache has flattered.
DiskPoint median_round(std::vector<DiskPoint> rounds) {
    std::ranges::sort(rounds, {}, &DiskPoint::bytes_per_second);
    return rounds[(rounds.size() - 1) / 2];
}

// Rounds over all cells rather than one cell after another: what else happens on the machine meanwhile then hits all
// alike.
Status measure(const DirectFile& file, const std::vector<DiskCell>& cells, const DiskProbeOptions& options,
               DiskProbe& probe) {
    HYPURA_ASSIGN(const MemoryRegion memory, read_memory(cells));
    std::vector<std::vector<DiskPoint>> rounds(cells.size());
    std::mt19937_64 random(static_cast<uint64_t>(now_us()));
    for (uint32_t round = 0; round < options.rounds; ++round) {
        for (size_t i = 0; i < cells.size(); ++i) {
            HYPURA_ASSIGN(const auto reader, make_raw_reader({.kind = options.kind,
                                                              .queue_depth = cells[i].queue_depth,
                                                              .threads = cells[i].queue_depth}));
            probe.reader = reader->name();
            CellRun run(*reader, file, cells[i], memory.data(), random);
            HYPURA_ASSIGN(const DiskPoint point, run.run(options.cell_us));
            rounds[i].push_back(point);
            if (options.on_cell) options.on_cell(round * cells.size() + i + 1, options.rounds * cells.size());
        }
    }
    for (auto& points : rounds) probe.points.push_back(median_round(std::move(points)));
    return {};
}

// ---- reading the table ---------------------------------------------------------------------------------------------

// Between the two measured keys around `wanted`, by the logarithm of the key.
double between(const std::map<double, double>& curve, double wanted) {
    const auto above = curve.lower_bound(wanted);
    if (above == curve.begin()) return curve.begin()->second;
    if (above == curve.end()) return std::prev(above)->second;
    const auto below = std::prev(above);
    const double share = std::log(wanted / below->first) / std::log(above->first / below->first);
    return below->second + share * (above->second - below->second);
}

}  // namespace

std::vector<DiskCell> standard_cells() {
    std::vector<DiskCell> cells;
    for (const uint64_t bytes : {4 * kKiB, 64 * kKiB, 256 * kKiB, kMiB, 4 * kMiB})
        for (const uint32_t depth : {1U, 4U, 8U, 32U}) cells.push_back({static_cast<uint32_t>(bytes), depth});
    return cells;
}

bool DiskProbe::bypasses_page_cache() const {
    const uint64_t allowed_bytes = std::max(kMiB, file_bytes / 100);
    return direct && cached_before_bytes && cached_after_bytes &&
           *cached_before_bytes <= std::min(allowed_bytes, file_bytes / 2) &&
           *cached_after_bytes <= std::min(allowed_bytes, file_bytes / 2);
}

std::optional<uint64_t> cached_bytes(int fd, uint64_t file_bytes) {
    if (const auto bytes = cached_by_cachestat(fd)) return bytes;
    return cached_by_mincore(fd, file_bytes);
}

Result<DiskProbe> probe_disk(const std::string& path, const DiskProbeOptions& options) {
    DiskProbe probe{.path = path};
    const std::vector<DiskCell> wanted = options.cells.empty() ? standard_cells() : options.cells;
    HYPURA_TRY(check_cells(wanted));
    if (options.rounds == 0) return fail(ErrorCode::kInvalidArgument, "a disk cannot be measured in no rounds");
    Target target;
    target.path = path;
    probe.made_file = is_folder(path);
    if (probe.made_file) HYPURA_TRY(make_file(path, options.file_bytes, target));
    HYPURA_ASSIGN(const DirectFile file, DirectFile::open(target.path));
    if (file.size_bytes() < kLeastFileBytes)
        return fail(ErrorCode::kInvalidArgument, "{}: {} is too little to measure a disk with", path,
                    format_bytes(file.size_bytes()));
    probe.file_bytes = file.size_bytes();
    probe.direct = file.direct();
    probe.alignment_bytes = std::max(file.offset_alignment(), file.memory_alignment());
    if (file.direct()) {
        HYPURA_ASSIGN(probe.compared_bytes, compare_with_buffered(file));
    }
    std::vector<DiskCell> cells;
    std::ranges::copy_if(wanted, std::back_inserter(cells),
                         [&](const DiskCell& cell) { return measurable(cell, file); });
    drop_from_cache(file.fd());
    probe.cached_before_bytes = cached_bytes(file.fd(), file.size_bytes());
    HYPURA_TRY(measure(file, cells, options, probe));
    probe.cached_after_bytes = cached_bytes(file.fd(), file.size_bytes());
    return probe;
}

Result<std::vector<DiskPoint>> glance_at_disk(const std::string& path) {
    const DiskProbeOptions options{.cells = {{128 * kKiB, 1}, {kMiB, 1}, {kMiB, 4}}, .cell_us = 30'000, .rounds = 1};
    HYPURA_ASSIGN(const DirectFile file, DirectFile::open(path));
    if (!file.direct()) return fail(ErrorCode::kUnsupportedHost, "{}: reads of it are not direct", path);
    if (file.size_bytes() < kLeastFileBytes)
        return fail(ErrorCode::kInvalidArgument, "{}: {} is too little to measure a disk with", path,
                    format_bytes(file.size_bytes()));
    DiskProbe probe{.path = path};
    HYPURA_TRY(measure(file, options.cells, options, probe));
    return std::move(probe.points);
}

double bandwidth_at(const std::vector<DiskPoint>& points, double request_bytes, double queue_depth) {
    std::map<double, std::map<double, double>> by_size;  // request size -> depth -> bandwidth
    for (const DiskPoint& point : points)
        by_size[point.cell.request_bytes][point.cell.queue_depth] = point.bytes_per_second;
    std::map<double, double> at_depth;
    for (const auto& [bytes, curve] : by_size) at_depth[bytes] = between(curve, queue_depth);
    return at_depth.empty() ? 0 : between(at_depth, request_bytes);
}

}  // namespace hypura::storage
