#include "gguf/model_file.h"

#include "base/unique_fd.h"
#include "gguf/limits.h"
#include "gguf/reader.h"
#include "gguf/tensor_layout.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <format>
#include <iterator>
#include <optional>
#include <utility>

namespace hypura::gguf {
namespace {

struct ReadPart {
    Part part;
    Header header;
};

// Where one file stands in a split model, by its metadata.
struct SplitPosition {
    uint64_t index = 0;  // from 0
    uint64_t count = 1;
};

Error open_error(int errno_value, const std::string& path) {
    switch (errno_value) {
        case ENOENT:
        case ENOTDIR:
            return {ErrorCode::kNotFound, std::format("{}: no such file; check the path", path.empty() ? "''" : path)};
        case EACCES:
        case EPERM:
            return {ErrorCode::kPermissionDenied,
                    std::format("{}: permission denied; allow this user to read it", path)};
        case ENXIO:  // a socket
            return {ErrorCode::kNotAFile, std::format("{}: not a regular file; name a GGUF file", path)};
        default:
            return error_from_errno(errno_value, "open", path);
    }
}

// Non-blocking, since opening a named pipe would otherwise wait for somebody to write to it.
Result<UniqueFd> open_for_reading(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd.valid()) return std::unexpected(open_error(errno, path));
    return fd;
}

Part identify(const std::string& path, const struct ::stat& status) {
    Part part;
    part.path = path;
    part.size_bytes = static_cast<uint64_t>(status.st_size);
    part.device = status.st_dev;
    part.inode = status.st_ino;
    part.modified_ns = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
    return part;
}

Result<Part> identify_regular_file(const std::string& path, int fd) {
    struct ::stat status{};
    if (::fstat(fd, &status) != 0) return std::unexpected(error_from_errno(errno, "examine", path));
    if (S_ISDIR(status.st_mode))
        return fail(ErrorCode::kNotAFile, "{}: this is a directory; name a GGUF file in it", path);
    if (!S_ISREG(status.st_mode)) return fail(ErrorCode::kNotAFile, "{}: not a regular file; name a GGUF file", path);
    return identify(path, status);
}

Result<ReadPart> read_part(const std::string& path) {
    HYPURA_ASSIGN(const UniqueFd fd, open_for_reading(path));
    HYPURA_ASSIGN(Part part, identify_regular_file(path, fd.get()));
    HYPURA_ASSIGN(Header header, read_header(file_source(path, fd.get(), part.size_bytes)));
    part.data_offset = header.data_offset;
    return ReadPart{std::move(part), std::move(header)};
}

std::optional<uint64_t> as_uint(const Value& value) {
    if (const auto* number = std::get_if<uint64_t>(&value)) return *number;
    if (const auto* number = std::get_if<int64_t>(&value); number != nullptr && *number >= 0)
        return static_cast<uint64_t>(*number);
    return std::nullopt;
}

std::optional<uint64_t> look_up_uint(const Metadata& metadata, std::string_view key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? std::nullopt : as_uint(found->second);
}

Result<SplitPosition> split_position(const ReadPart& read) {
    const uint64_t count = look_up_uint(read.header.metadata, "split.count").value_or(1);
    const uint64_t index = look_up_uint(read.header.metadata, "split.no").value_or(0);
    if (count <= 1) return SplitPosition{};
    if (count > kMaxParts || index >= count)
        return fail(ErrorCode::kCorruptModel,
                    "{}: the file claims to be part {} of {} parts; it is damaged, download it again", read.part.path,
                    index + 1, count);
    return SplitPosition{index, count};
}

// llama.cpp's naming of parts; they count from 1.
std::string part_suffix(uint64_t index, uint64_t count) {
    return std::format("-{:05}-of-{:05}.gguf", index + 1, count);
}

// What is left of the path without the suffix, with which the names of the other parts begin.
Result<std::string> part_prefix(const std::string& path, const SplitPosition& position) {
    const std::string suffix = part_suffix(position.index, position.count);
    if (path.ends_with(suffix)) return path.substr(0, path.size() - suffix.size());
    return flawed(ModelFlaw::kMissingPart,
                  "{}: this is part {} of {} of a model, but the other parts cannot be found, since its name does not "
                  "end in {}; give every part its original name",
                  path, position.index + 1, position.count, suffix);
}

Result<ReadPart> read_sibling(const std::string& path, const SplitPosition& position) {
    auto read = read_part(path);
    if (!read && read.error().code == ErrorCode::kNotFound)
        return flawed(ModelFlaw::kMissingPart,
                      "{}: part {} of the model's {} is missing; download it into the same folder", path,
                      position.index + 1, position.count);
    if (!read) return read;
    HYPURA_ASSIGN(const SplitPosition found, split_position(*read));
    if (found.index == position.index && found.count == position.count) return read;
    return fail(ErrorCode::kCorruptModel,
                "{}: by its metadata this is part {} of {}, not part {} of {}; give every part its original name, or "
                "download it again",
                path, found.index + 1, found.count, position.index + 1, position.count);
}

// Every part but the one at `position`, whose path is `path`.
Result<std::vector<ReadPart>> read_siblings(const std::string& path, const SplitPosition& position) {
    std::vector<ReadPart> parts;
    if (position.count == 1) return parts;
    HYPURA_ASSIGN(const std::string prefix, part_prefix(path, position));
    for (uint64_t index = 0; index < position.count; ++index) {
        if (index == position.index) continue;
        const std::string sibling = prefix + part_suffix(index, position.count);
        HYPURA_ASSIGN(ReadPart read, read_sibling(sibling, SplitPosition{index, position.count}));
        parts.push_back(std::move(read));
    }
    return parts;
}

Result<std::vector<ReadPart>> read_all_parts(ReadPart given, const SplitPosition& position) {
    HYPURA_ASSIGN(std::vector<ReadPart> parts, read_siblings(given.part.path, position));
    parts.insert(parts.begin() + static_cast<std::ptrdiff_t>(position.index), std::move(given));
    return parts;
}

void append_tensors(ModelFile& model, std::vector<TensorInfo> tensors, uint32_t part) {
    for (TensorInfo& tensor : tensors) tensor.part = part;
    std::ranges::move(tensors, std::back_inserter(model.tensors));
}

ModelFile join(std::vector<ReadPart> parts) {
    ModelFile model;
    model.metadata = std::move(parts.front().header.metadata);
    for (uint32_t index = 0; index < parts.size(); ++index) {
        append_tensors(model, std::move(parts[index].header.tensors), index);
        model.parts.push_back(std::move(parts[index].part));
    }
    // No overflow: every tensor lies inside a file, and no two share bytes.
    for (const TensorInfo& tensor : model.tensors) model.tensor_bytes += tensor.size_bytes;
    return model;
}

std::string_view what_changed(const Part& before, const Part& now) {
    if (now.device != before.device || now.inode != before.inode) return "replaced by another one";
    if (now.size_bytes < before.size_bytes) return "truncated";
    return "written to";
}

// Parts of two different downloads of a model can look alike one by one; together they do not.
Status check_joined(const ModelFile& model) {
    if (model.parts.size() == 1) return {};
    const std::string& path = model.parts.front().path;
    const auto expected = model.find_uint("split.tensors.count");
    if (expected && *expected != model.tensors.size())
        return fail(ErrorCode::kCorruptModel,
                    "{}: the model should have {} tensors, but its {} parts hold {}; the parts do not belong together, "
                    "download them again",
                    path, *expected, model.parts.size(), model.tensors.size());
    return check_unique_names(path, model.tensors);
}

}  // namespace

std::optional<uint64_t> ModelFile::find_uint(std::string_view key) const { return look_up_uint(metadata, key); }

std::optional<std::string_view> ModelFile::find_string(std::string_view key) const {
    const auto found = metadata.find(key);
    if (found == metadata.end()) return std::nullopt;
    const auto* text = std::get_if<std::string>(&found->second);
    return text == nullptr ? std::nullopt : std::optional<std::string_view>(*text);
}

const TensorInfo* ModelFile::find_tensor(std::string_view name) const {
    const auto found = std::ranges::find(tensors, name, &TensorInfo::name);
    return found == tensors.end() ? nullptr : &*found;
}

Result<ModelFile> open_model(const std::string& path) {
    HYPURA_ASSIGN(ReadPart given, read_part(path));
    HYPURA_ASSIGN(const SplitPosition position, split_position(given));
    HYPURA_ASSIGN(std::vector<ReadPart> parts, read_all_parts(std::move(given), position));
    ModelFile model = join(std::move(parts));
    HYPURA_TRY(check_joined(model));
    return model;
}

Status check_unchanged(const ModelFile& model) {
    for (const Part& part : model.parts) {
        struct ::stat status{};
        const bool exists = ::stat(part.path.c_str(), &status) == 0;
        const Part now = exists ? identify(part.path, status) : Part{};
        const bool same = exists && now.size_bytes == part.size_bytes && now.device == part.device &&
                          now.inode == part.inode && now.modified_ns == part.modified_ns;
        if (!same)
            return fail(ErrorCode::kModelChanged,
                        "{}: the file was {} while it was in use; load the model again once it is complete", part.path,
                        exists ? what_changed(part, now) : "removed");
    }
    return {};
}

}  // namespace hypura::gguf
