#include "gguf/cursor.h"

#include "base/bytes.h"
#include "gguf/limits.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace hypura::gguf {
namespace {

// Large enough that a tokenizer's vocabulary takes few system calls, small enough to cost nothing.
constexpr uint64_t kWindowBytes = 64 * kKiB;

Result<size_t> read_file_at(const std::string& path, int fd, uint64_t offset, std::span<std::byte> out) {
    for (;;) {
        const ssize_t count = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
        if (count >= 0) return static_cast<size_t>(count);
        if (errno != EINTR) return std::unexpected(error_from_errno(errno, "read", path));
    }
}

size_t copy_at(std::span<const std::byte> bytes, uint64_t offset, std::span<std::byte> out) {
    if (offset >= bytes.size()) return 0;
    const size_t count = std::min(out.size(), bytes.size() - offset);
    std::memcpy(out.data(), bytes.data() + offset, count);
    return count;
}

}  // namespace

ByteSource file_source(std::string path, int fd, uint64_t size_bytes) {
    auto read_at = [path, fd](uint64_t offset, std::span<std::byte> out) {
        return read_file_at(path, fd, offset, out);
    };
    return {std::move(path), size_bytes, std::move(read_at)};
}

ByteSource memory_source(std::string name, std::span<const std::byte> bytes) {
    auto read_at = [bytes](uint64_t offset, std::span<std::byte> out) -> Result<size_t> {
        return copy_at(bytes, offset, out);
    };
    return {std::move(name), bytes.size(), std::move(read_at)};
}

Cursor::Cursor(const ByteSource& source)
    : source_(source), end_(std::min(source.size_bytes, kMaxHeaderBytes)), window_(std::min(end_, kWindowBytes)) {}

Status Cursor::check_available(uint64_t bytes) const {
    if (bytes <= remaining_bytes()) return {};
    if (end_ < source_.size_bytes)
        return flawed(ModelFlaw::kAbsurdCount, "{}: the header is larger than {}, so it is damaged; download it again",
                      name(), format_bytes(kMaxHeaderBytes));
    return flawed(ModelFlaw::kTruncated,
                  "{}: the file ends inside its header, at byte {}; it is truncated, download it again", name(), end_);
}

Status Cursor::check_count(uint64_t count, uint64_t max_count, uint64_t min_bytes, std::string_view what) const {
    if (count > max_count)
        return flawed(ModelFlaw::kAbsurdCount,
                      "{}: the header claims {} {}, more than the {} that make sense; it is damaged, download it again",
                      name(), count, what, max_count);
    if (count * min_bytes > remaining_bytes())  // cannot wrap: every maximum is far below 2^32
        return flawed(ModelFlaw::kTruncated,
                      "{}: the header claims {} {}, which do not fit into the file's {} bytes; it is truncated or "
                      "damaged, download it again",
                      name(), count, what, source_.size_bytes);
    return {};
}

Result<std::string> Cursor::read_string(uint64_t max_bytes, std::string_view what) {
    HYPURA_ASSIGN(const uint64_t length, read<uint64_t>());
    if (length > max_bytes)
        return flawed(ModelFlaw::kAbsurdCount,
                      "{}: {} at byte {} claims {} bytes, more than the {} allowed; the file is damaged, download it "
                      "again",
                      name(), what, position_, length, max_bytes);
    HYPURA_TRY(check_available(length));
    std::string text(length, '\0');
    HYPURA_TRY(read_into(std::as_writable_bytes(std::span(text))));
    return text;
}

Status Cursor::read_into(std::span<std::byte> out) {
    HYPURA_TRY(check_available(out.size()));
    while (!out.empty()) {
        if (position_ == window_begin_ + window_bytes_) HYPURA_TRY(refill());
        const uint64_t at = position_ - window_begin_;
        const size_t count = std::min<size_t>(out.size(), window_bytes_ - at);
        std::memcpy(out.data(), window_.data() + at, count);
        out = out.subspan(count);
        position_ += count;
    }
    return {};
}

Status Cursor::refill() {
    const auto wanted = std::span(window_).first(std::min<uint64_t>(window_.size(), remaining_bytes()));
    HYPURA_ASSIGN(const size_t count, source_.read_at(position_, wanted));
    if (count == 0)  // the size promised more: somebody shortens the file right now
        return fail(ErrorCode::kModelChanged,
                    "{}: the file became shorter while it was read; try again when nothing "
                    "writes to it",
                    name());
    window_begin_ = position_;
    window_bytes_ = count;
    return {};
}

}  // namespace hypura::gguf
