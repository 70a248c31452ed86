#include "server/model_import.h"

#include "base/output_file.h"
#include "server/text_util.h"

#include <fcntl.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <vector>

namespace hypura::server {
namespace {

namespace fs = std::filesystem;

// Node's pathToFileURL writes blanks and everything beyond ASCII as %XX.
std::string percent_decoded(std::string_view text) {
    std::string decoded;
    for (size_t i = 0; i < text.size(); ++i) {
        unsigned int byte = 0;
        const char* const digits = text.data() + i + 1;
        const bool code =
            text[i] == '%' && i + 2 < text.size() && std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2;
        decoded += code ? static_cast<char>(byte) : text[i];
        if (code) i += 2;
    }
    return decoded;
}

// A file under another name until it is whole.
class PartialFile {
public:
    explicit PartialFile(const std::string& path) : path_(path + random_id(".", 8) + ".partial") {}
    PartialFile(const PartialFile&) = delete;
    PartialFile& operator=(const PartialFile&) = delete;
    ~PartialFile() {
        std::error_code ignored;
        if (!path_.empty()) fs::remove(path_, ignored);
    }

    const std::string& path() const { return path_; }
    ApiStatus become(const std::string& path) {
        std::error_code error;
        fs::rename(path_, path, error);
        if (error) return refuse(500, "cannot create {}: {}", path, error.message());
        path_.clear();
        return {};
    }

private:
    std::string path_;
};

Result<size_t> read_some(int fd, std::span<std::byte> to, const std::string& path) {
    while (true) {
        const ssize_t count = ::read(fd, to.data(), to.size());
        if (count >= 0) return static_cast<size_t>(count);
        if (errno != EINTR) return std::unexpected(error_from_errno(errno, "read", path));
    }
}

ApiStatus copy_bytes(const std::string& from, const std::string& to, const std::function<bool(uint64_t)>& copied) {
    constexpr size_t kStepBytes = size_t{16} << 20U;
    const UniqueFd in(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
    if (!in.valid()) return std::unexpected(ApiError(error_from_errno(errno, "open", from)));
    HYPURA_ASSIGN(OutputFile out, OutputFile::create(to));
    std::vector<std::byte> block(kStepBytes);
    while (true) {
        HYPURA_ASSIGN(const size_t bytes, read_some(in.get(), block, from));
        if (bytes == 0) break;
        HYPURA_TRY(out.write(std::span(block).first(bytes)));
        if (!copied(bytes)) return refuse(499, "request canceled");
    }
    HYPURA_TRY(out.close());
    return {};
}

}  // namespace

std::string local_path(std::string_view source) {
    constexpr std::string_view kScheme = "file://";
    constexpr std::string_view kHost = "localhost/";
    if (!source.starts_with(kScheme)) return std::string(source);
    source.remove_prefix(kScheme.size());
    if (source.starts_with(kHost)) source.remove_prefix(kHost.size() - 1);
    return percent_decoded(source);
}

ApiStatus copy_file(const std::string& from, const std::string& to, const std::function<bool(uint64_t bytes)>& copied) {
    PartialFile partial(to);
    HYPURA_TRY(copy_bytes(from, partial.path(), copied));
    std::error_code error;
    const auto time = fs::last_write_time(from, error);
    if (!error) fs::last_write_time(partial.path(), time, error);
    return partial.become(to);
}

}  // namespace hypura::server
