#include "cli/text_file.h"

#include <cerrno>
#include <cstdio>

namespace hypura::cli {

Status write_text(const std::string& path, const std::string& text) {
    std::FILE* file = std::fopen(path.c_str(), "wbe");
    if (file == nullptr) return std::unexpected(error_from_errno(errno, "create the file", path));
    const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
    const bool closed = std::fclose(file) == 0;
    if (!written || !closed) return std::unexpected(error_from_errno(errno, "write the file", path));
    return {};
}

}  // namespace hypura::cli
