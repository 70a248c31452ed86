#include "gguf/writer.h"

#include "base/bytes.h"
#include "base/output_file.h"
#include "base/unique_fd.h"
#include "gguf/limits.h"
#include "gguf/tensor_layout.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <ranges>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <utility>

namespace hypura::gguf {
namespace {

constexpr uint64_t kChunkBytes = 16 * kMiB;
constexpr uint32_t kVersion = 3;

// Numbers of value kinds in the file.
constexpr uint32_t kKindUint16 = 2, kKindUint32 = 4, kKindInt32 = 5, kKindFloat32 = 6, kKindBool = 7, kKindString = 8,
                   kKindArray = 9, kKindUint64 = 10, kKindInt64 = 11;

// Appends the header's parts to memory: a header is small even where the file is not.
class HeaderBuilder {
public:
    std::string take() && { return std::move(bytes_); }
    uint64_t size_bytes() const { return bytes_.size(); }

    void append_text(std::string_view text) { bytes_ += text; }

    template <class T>
    void append(T value) {
        bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }

    void append_string(std::string_view text) {
        append<uint64_t>(text.size());
        append_text(text);
    }

    void append_key_value(std::string_view key, const Value& value);
    void append_tensor(const TensorSpec& tensor, uint64_t offset);
    void pad_to(uint64_t alignment) { bytes_.resize(align_up(bytes_.size(), alignment)); }

private:
    template <class Stored, class Number>
    void append_numbers(uint32_t kind, const std::vector<Number>& numbers) {
        append_array_start(kind, numbers.size());
        for (const Number number : numbers) append(static_cast<Stored>(number));
    }
    template <class Stored, class Number>
    void append_number(uint32_t kind, Number number) {
        append(kind);
        append(static_cast<Stored>(number));
    }
    void append_array_start(uint32_t kind, uint64_t count) {
        append(kKindArray);
        append(kind);
        append(count);
    }

    void append_value(uint64_t value);
    void append_value(int64_t value);
    void append_value(double value) { append_number<float>(kKindFloat32, value); }
    void append_value(bool value) { append_number<uint8_t>(kKindBool, value); }
    void append_value(const std::string& value);
    void append_value(const std::vector<uint64_t>& values);
    void append_value(const std::vector<int64_t>& values);
    void append_value(const std::vector<double>& values) { append_numbers<float>(kKindFloat32, values); }
    void append_value(const std::vector<std::string>& values);

    std::string bytes_;
};

bool fits_uint32(uint64_t value) { return value <= std::numeric_limits<uint32_t>::max(); }
bool fits_int32(int64_t value) { return std::in_range<int32_t>(value); }

void HeaderBuilder::append_value(uint64_t value) {
    if (fits_uint32(value)) return append_number<uint32_t>(kKindUint32, value);
    append_number<uint64_t>(kKindUint64, value);
}

void HeaderBuilder::append_value(int64_t value) {
    if (fits_int32(value)) return append_number<int32_t>(kKindInt32, value);
    append_number<int64_t>(kKindInt64, value);
}

void HeaderBuilder::append_value(const std::string& value) {
    append(kKindString);
    append_string(value);
}

void HeaderBuilder::append_value(const std::vector<uint64_t>& values) {
    if (std::ranges::all_of(values, fits_uint32)) return append_numbers<uint32_t>(kKindUint32, values);
    append_numbers<uint64_t>(kKindUint64, values);
}

void HeaderBuilder::append_value(const std::vector<int64_t>& values) {
    if (std::ranges::all_of(values, fits_int32)) return append_numbers<int32_t>(kKindInt32, values);
    append_numbers<int64_t>(kKindInt64, values);
}

void HeaderBuilder::append_value(const std::vector<std::string>& values) {
    append_array_start(kKindString, values.size());
    for (const std::string& value : values) append_string(value);
}

// libllama reads these two as 16-bit numbers and refuses any other width.
bool is_stored_in_16_bits(std::string_view key) { return key == "split.no" || key == "split.count"; }

void HeaderBuilder::append_key_value(std::string_view key, const Value& value) {
    append_string(key);
    if (const auto* number = std::get_if<uint64_t>(&value); number != nullptr && is_stored_in_16_bits(key))
        return append_number<uint16_t>(kKindUint16, *number);
    std::visit([this](const auto& alternative) { append_value(alternative); }, value);
}

void HeaderBuilder::append_tensor(const TensorSpec& tensor, uint64_t offset) {
    append_string(tensor.name);
    append(static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t extent : tensor.shape) append(extent);
    append(tensor.type.id);
    append(offset);
}

// The file under a temporary name; it gets its own name only when it is complete, and disappears when it is not.
class PartialFile {
public:
    explicit PartialFile(std::string path) : path_(std::move(path)), partial_path_(path_ + ".partial") {}
    PartialFile(const PartialFile&) = delete;
    PartialFile& operator=(const PartialFile&) = delete;
    ~PartialFile() {
        if (fd_.valid()) ::unlink(partial_path_.c_str());
    }

    // A device or a folder keeps its name: renaming over it would remove it.
    Status open() {
        std::error_code ignored;
        const auto there = std::filesystem::status(path_, ignored);
        if (std::filesystem::exists(there) && !std::filesystem::is_regular_file(there))
            return fail(ErrorCode::kNotAFile, "{}: is no regular file; name a file to write", path_);
        fd_ = UniqueFd(::open(partial_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
        if (!fd_.valid()) return std::unexpected(error_from_errno(errno, "create", partial_path_));
        return {};
    }

    Status write(std::span<const std::byte> bytes) { return write_fully(fd_.get(), bytes, path_); }

    // Some file systems report a full disk only when the data really go out.
    Status commit() {
        if (::fsync(fd_.get()) != 0) return std::unexpected(error_from_errno(errno, "write", path_));
        if (std::rename(partial_path_.c_str(), path_.c_str()) != 0)
            return std::unexpected(error_from_errno(errno, "replace", path_));
        fd_ = UniqueFd();
        return {};
    }

private:
    std::string path_;
    std::string partial_path_;
    UniqueFd fd_;
};

Status check_tensor(const std::string& path, const TensorSpec& tensor) {
    const bool fits = !tensor.shape.empty() && tensor.shape.size() <= kMaxDimensions && tensor.type.block_elements > 0;
    if (!fits || !tensor_bytes(tensor.type, tensor.shape))
        return fail(ErrorCode::kInvalidArgument,
                    "{}: tensor {} cannot be written: give it 1 to 4 dimensions above 0 and rows of whole blocks", path,
                    tensor.name);
    if (tensor.name.size() > kMaxTensorNameBytes)
        return fail(ErrorCode::kInvalidArgument, "{}: the tensor name {} is longer than {} bytes; shorten it", path,
                    tensor.name, kMaxTensorNameBytes);
    return {};
}

Status check_tensors(const std::string& path, std::span<const TensorSpec> tensors) {
    std::unordered_set<std::string_view> seen;
    for (const TensorSpec& tensor : tensors) {
        HYPURA_TRY(check_tensor(path, tensor));
        if (!seen.insert(tensor.name).second)
            return fail(ErrorCode::kInvalidArgument, "{}: two tensors are named {}; rename one", path, tensor.name);
    }
    return {};
}

// Offsets are ours; a metadata value that contradicts them would make the file unreadable.
Status check_alignment(const std::string& path, const Metadata& metadata) {
    const auto found = metadata.find("general.alignment");
    if (found == metadata.end() || found->second == Value(kDefaultAlignment)) return {};
    return fail(ErrorCode::kInvalidArgument, "{}: general.alignment must be {} in written files; leave it out", path,
                kDefaultAlignment);
}

uint64_t padded_bytes(const TensorSpec& tensor) { return align_up(tensor.size_bytes(), kDefaultAlignment); }

std::string build_header(const Metadata& metadata, std::span<const TensorSpec> tensors) {
    HeaderBuilder header;
    header.append_text("GGUF");
    header.append(kVersion);
    header.append<uint64_t>(tensors.size());
    header.append<uint64_t>(metadata.size());
    for (const auto& [key, value] : metadata) header.append_key_value(key, value);
    uint64_t offset = 0;
    for (const TensorSpec& tensor : tensors) {
        header.append_tensor(tensor, offset);
        offset += padded_bytes(tensor);
    }
    header.pad_to(kDefaultAlignment);
    return std::move(header).take();
}

// Writes the tensor data and counts what was written.
class TensorStream {
public:
    TensorStream(PartialFile& file, const FillTensor& fill, const std::function<void(uint64_t, uint64_t)>& progress,
                 uint64_t total_bytes)
        : file_(file), fill_(fill), progress_(progress), total_bytes_(total_bytes) {}

    Status write(std::span<const std::byte> bytes) {
        HYPURA_TRY(file_.write(bytes));
        written_bytes_ += bytes.size();
        if (progress_) progress_(written_bytes_, total_bytes_);
        return {};
    }

    Status write_tensor(size_t index, const TensorSpec& tensor) {
        const uint64_t whole_blocks = kChunkBytes / tensor.type.block_bytes * tensor.type.block_bytes;
        const uint64_t size_bytes = tensor.size_bytes();
        for (uint64_t offset = 0; offset < size_bytes;) {
            const uint64_t count = std::min(whole_blocks, size_bytes - offset);
            buffer_.assign(count, std::byte{0});
            fill_(index, offset, buffer_);
            offset += count;
            if (offset == size_bytes) buffer_.resize(count + padded_bytes(tensor) - size_bytes);  // zeros
            HYPURA_TRY(write(buffer_));
        }
        return {};
    }

private:
    PartialFile& file_;
    const FillTensor& fill_;
    const std::function<void(uint64_t, uint64_t)>& progress_;
    uint64_t total_bytes_;
    uint64_t written_bytes_ = 0;
    std::vector<std::byte> buffer_;
};

Result<uint64_t> file_bytes(const std::string& path, uint64_t header_bytes, std::span<const TensorSpec> tensors) {
    uint64_t total = header_bytes;
    for (const TensorSpec& tensor : tensors) {
        const auto sum = checked_add(total, padded_bytes(tensor));
        if (!sum) return fail(ErrorCode::kInvalidArgument, "{}: the tensors are too large for any file", path);
        total = *sum;
    }
    return total;
}

}  // namespace

uint64_t TensorSpec::size_bytes() const { return tensor_bytes(type, shape).value_or(0); }

Status write_model(const std::string& path, const Metadata& metadata, std::span<const TensorSpec> tensors,
                   const FillTensor& fill, const std::function<void(uint64_t, uint64_t)>& progress) {
    HYPURA_TRY(check_tensors(path, tensors));
    HYPURA_TRY(check_alignment(path, metadata));
    const std::string header = build_header(metadata, tensors);
    HYPURA_ASSIGN(const uint64_t total_bytes, file_bytes(path, header.size(), tensors));
    PartialFile file(path);
    HYPURA_TRY(file.open());
    TensorStream stream(file, fill, progress, total_bytes);
    HYPURA_TRY(stream.write(std::as_bytes(std::span(header))));
    for (size_t index = 0; index < tensors.size(); ++index) HYPURA_TRY(stream.write_tensor(index, tensors[index]));
    return file.commit();
}

}  // namespace hypura::gguf
