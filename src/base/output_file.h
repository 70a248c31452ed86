// A file that is written from front to back: statistics, logits. Every byte is written, or the error says why not.
#pragma once

#include "base/status.h"
#include "base/unique_fd.h"

#include <cstddef>
#include <span>
#include <string>

namespace hypura {

// Writes all of `bytes` to `fd`, in as many system calls as it takes. `subject` is the file's name in errors:
// kDiskFull where there is no room, else what error_from_errno makes of it.
Status write_fully(int fd, std::span<const std::byte> bytes, std::string_view subject);

// Owns the open file; move-only.
class OutputFile {
public:
    // Creates the file, or empties the one that is there.
    static Result<OutputFile> create(std::string path);

    Status write(std::span<const std::byte> bytes) { return write_fully(fd_.get(), bytes, path_); }

    // Some file systems report only here that the disk is full. Without it the file is closed and its errors are lost.
    Status close();

private:
    OutputFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

    std::string path_;
    UniqueFd fd_;
};

}  // namespace hypura
