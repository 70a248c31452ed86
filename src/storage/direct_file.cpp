// Opens a model file for reads that bypass the page cache, and proves that they work.
//
// The file is opened once and switched between buffered and direct with F_SETFL, so that the proof compares two reads
// of the same file even if somebody replaces the path meanwhile.
#include "base/bytes.h"
#include "base/unique_fd.h"
#include "storage/reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <optional>

namespace hypura::storage {

struct DirectFile::State {
    UniqueFd fd;
    std::string path;
    uint64_t size_bytes = 0;
    bool direct = false;
    uint32_t offset_alignment = 1;
    uint32_t memory_alignment = 1;
};

namespace {

// Where the kernel reports nothing: the largest logical block of common devices, and a page.
constexpr uint32_t kDefaultAlignment = 4096;
// A window may overhang its block by one alignment unit, and be shifted by another: both must fit in the slack.
constexpr uint32_t kMaxAlignment = BlockReader::kSlackBytes / 2;

struct Alignment {
    uint32_t offset = kDefaultAlignment;
    uint32_t memory = kDefaultAlignment;
};

Result<UniqueFd> open_readable(const std::string& path) {
    // O_NONBLOCK: opening a FIFO must not hang before we can see that it is one. set_direct() clears it again.
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (fd.valid()) return fd;
    if (errno == ENXIO) return fail(ErrorCode::kNotAFile, "{}: is a socket or a device, not a model file", path);
    return std::unexpected(error_from_errno(errno, "open the file", path));
}

Result<uint64_t> regular_file_size(int fd, const std::string& path) {
    struct stat info{};
    if (::fstat(fd, &info) != 0) return std::unexpected(error_from_errno(errno, "examine the file", path));
    if (S_ISDIR(info.st_mode)) return fail(ErrorCode::kNotAFile, "{}: is a directory, not a model file", path);
    if (!S_ISREG(info.st_mode)) return fail(ErrorCode::kNotAFile, "{}: is not a regular file", path);
    return static_cast<uint64_t>(info.st_size);
}

// False when the filesystem refuses. Also clears O_NONBLOCK, with which io_uring would return EAGAIN instead of
// waiting.
bool set_direct(int fd, bool direct) {
#ifdef __APPLE__
    return ::fcntl(fd, F_SETFL, 0) == 0 && ::fcntl(fd, F_NOCACHE, direct ? 1 : 0) == 0;
#else
    return ::fcntl(fd, F_SETFL, direct ? O_DIRECT : 0) == 0;
#endif
}

// Empty when the kernel says that this file cannot be read directly, or only in units too large for the slack.
std::optional<Alignment> direct_alignment([[maybe_unused]] int fd) {
    Alignment alignment;
#ifdef STATX_DIOALIGN
    struct statx info{};
    if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 && (info.stx_mask & STATX_DIOALIGN) != 0) {
        alignment = {info.stx_dio_offset_align, info.stx_dio_mem_align};
    }
#endif
    const auto usable = [](uint32_t unit) { return std::has_single_bit(unit) && unit <= kMaxAlignment; };
    if (!usable(alignment.offset) || !usable(alignment.memory)) return std::nullopt;
    return alignment;
}

struct FirstBlock {
    alignas(kMaxAlignment) std::byte bytes[kMaxAlignment];
    ssize_t count = -1;

    bool operator==(const FirstBlock& other) const {
        return count >= 0 && count == other.count && std::equal(bytes, bytes + count, other.bytes);
    }
};

void read_first_block(int fd, FirstBlock& block) {
    do {
        block.count = ::pread(fd, block.bytes, sizeof(block.bytes), 0);
    } while (block.count < 0 && errno == EINTR);
}

// Some filesystems accept O_DIRECT and then fail the read, or (broken network and overlay ones) return other bytes.
bool direct_equals_buffered(int fd) {
    FirstBlock buffered, direct;
    read_first_block(fd, buffered);
    if (!set_direct(fd, true)) return false;
    read_first_block(fd, direct);
    return buffered == direct;
}

}  // namespace

Result<DirectFile> DirectFile::open(const std::string& path) {
    HYPURA_ASSIGN(UniqueFd fd, open_readable(path));
    HYPURA_ASSIGN(const uint64_t size_bytes, regular_file_size(fd.get(), path));
    const std::optional<Alignment> alignment = direct_alignment(fd.get());
    const bool direct = alignment && direct_equals_buffered(fd.get());
    if (!direct && !set_direct(fd.get(), false)) {
        return std::unexpected(error_from_errno(errno, "read the file through the page cache", path));
    }

    auto state = std::make_unique<State>(std::move(fd), path, size_bytes, direct);
    if (direct) {
        state->offset_alignment = alignment->offset;
        state->memory_alignment = alignment->memory;
    }
    return DirectFile(std::move(state));
}

DirectFile::DirectFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
DirectFile::DirectFile(DirectFile&&) noexcept = default;
DirectFile& DirectFile::operator=(DirectFile&&) noexcept = default;
DirectFile::~DirectFile() = default;

int DirectFile::fd() const { return state_->fd.get(); }
bool DirectFile::direct() const { return state_->direct; }
uint32_t DirectFile::offset_alignment() const { return state_->offset_alignment; }
uint32_t DirectFile::memory_alignment() const { return state_->memory_alignment; }
uint64_t DirectFile::size_bytes() const { return state_->size_bytes; }
const std::string& DirectFile::path() const { return state_->path; }

}  // namespace hypura::storage
