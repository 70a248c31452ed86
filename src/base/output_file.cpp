#include "base/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace hypura {

Status write_fully(int fd, std::span<const std::byte> bytes, std::string_view subject) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return std::unexpected(error_from_errno(errno, "write", subject));
        bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return {};
}

Result<OutputFile> OutputFile::create(std::string path) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!fd.valid()) return std::unexpected(error_from_errno(errno, "create", path));
    return OutputFile(std::move(path), std::move(fd));
}

Status OutputFile::close() {
    if (::close(fd_.release()) != 0 && errno != EINTR) return std::unexpected(error_from_errno(errno, "write", path_));
    return {};
}

}  // namespace hypura
