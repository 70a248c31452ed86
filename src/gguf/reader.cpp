#include "gguf/reader.h"

#include "base/bytes.h"
#include "gguf/limits.h"
#include "gguf/tensor_layout.h"

#include <algorithm>
#include <array>
#include <bit>
#include <span>
#include <string_view>
#include <utility>

namespace hypura::gguf {
namespace {

constexpr uint64_t kMagicBytes = 4;
constexpr uint32_t kOldestVersion = 2;  // version 1 had 32-bit counts and lasted for weeks
constexpr uint32_t kNewestVersion = 3;

// The kinds of metadata values, by their numbers in the file.
enum class Kind : uint32_t {
    kUint8,
    kInt8,
    kUint16,
    kInt16,
    kUint32,
    kInt32,
    kFloat32,
    kBool,
    kString,
    kArray,
    kUint64,
    kInt64,
    kFloat64
};

// One header in the course of being parsed.
class HeaderParser {
public:
    explicit HeaderParser(const ByteSource& source) : source_(source), cursor_(source) {}

    Result<Header> parse();

private:
    Status read_magic();
    Status read_version();
    Status read_counts();
    Status read_metadata();
    Status read_key_value();
    Status read_directory();
    Status locate_tensors();

    Result<Value> read_value(std::string_view key);
    Result<Value> read_array(std::string_view key);
    Status take_array_elements(uint64_t count, Kind kind);
    template <class Stored, class Wide>
    Result<Value> read_scalar();
    template <class Stored, class Wide>
    Result<Value> read_numbers(uint64_t count);
    Result<Value> read_strings(uint64_t count);

    Result<TensorInfo> read_tensor();
    Status read_shape(TensorInfo& tensor);
    Status read_type(TensorInfo& tensor);
    Result<uint64_t> alignment() const;
    Status locate(TensorInfo& tensor, uint64_t alignment) const;

    const ByteSource& source_;
    Cursor cursor_;
    Header header_;
    uint64_t tensor_count_ = 0;
    uint64_t key_count_ = 0;
    uint64_t array_elements_ = 0;  // in all arrays so far
};

Result<Header> HeaderParser::parse() {
    HYPURA_TRY(read_magic());
    HYPURA_TRY(read_version());
    HYPURA_TRY(read_counts());
    HYPURA_TRY(read_metadata());
    HYPURA_TRY(read_directory());
    HYPURA_TRY(locate_tensors());
    HYPURA_TRY(check_unique_names(source_.name, header_.tensors));
    HYPURA_TRY(sort_without_overlap(source_.name, header_.tensors));
    return std::move(header_);
}

Status HeaderParser::read_magic() {
    if (source_.size_bytes == 0)
        return fail(ErrorCode::kNotGguf, "{}: the file is empty; download it again", source_.name);
    if (source_.size_bytes < kMagicBytes)
        return fail(ErrorCode::kNotGguf, "{}: a file of {} bytes is too short for a GGUF model; download it again",
                    source_.name, source_.size_bytes);
    HYPURA_ASSIGN(const auto magic, (cursor_.read<std::array<char, kMagicBytes>>()));
    const std::string_view text(magic.data(), magic.size());
    if (text == "GGUF") return {};
    if (text == "vers")  // "version https://git-lfs.github.com/spec/v1"
        return fail(ErrorCode::kNotGguf,
                    "{}: this is no GGUF model but probably a Git LFS pointer to one; fetch it with 'git lfs pull'",
                    source_.name);
    return fail(ErrorCode::kNotGguf,
                "{}: this is no GGUF model, since it does not begin with 'GGUF'; choose or convert another file",
                source_.name);
}

Status HeaderParser::read_version() {
    HYPURA_ASSIGN(const uint32_t version, cursor_.read<uint32_t>());
    if (version >= kOldestVersion && version <= kNewestVersion) return {};
    const uint32_t swapped = std::byteswap(version);
    if (swapped >= 1 && swapped <= kNewestVersion)
        return fail(ErrorCode::kUnsupportedModel,
                    "{}: the model was written for big-endian machines; get its little-endian version", source_.name);
    return fail(
        ErrorCode::kUnsupportedModel,
        "{}: GGUF version {} is not supported, only {} and {}; convert the model again with a current llama.cpp",
        source_.name, version, kOldestVersion, kNewestVersion);
}

Status HeaderParser::read_counts() {
    HYPURA_ASSIGN(tensor_count_, cursor_.read<uint64_t>());
    HYPURA_ASSIGN(key_count_, cursor_.read<uint64_t>());
    HYPURA_TRY(cursor_.check_count(tensor_count_, kMaxTensors, kMinTensorEntryBytes, "tensors"));
    return cursor_.check_count(key_count_, kMaxMetadataKeys, kMinKeyValueBytes, "metadata keys");
}

Status HeaderParser::read_metadata() {
    for (uint64_t i = 0; i < key_count_; ++i) HYPURA_TRY(read_key_value());
    return {};
}

Status HeaderParser::read_key_value() {
    HYPURA_ASSIGN(std::string key, cursor_.read_string(kMaxKeyBytes, "a metadata key"));
    if (header_.metadata.contains(key))
        return fail(ErrorCode::kCorruptModel,
                    "{}: metadata key {} occurs twice; the file is damaged, download or convert it again", source_.name,
                    printable(key));
    HYPURA_ASSIGN(Value value, read_value(key));
    header_.metadata.emplace(std::move(key), std::move(value));
    return {};
}

template <class Stored, class Wide>
Result<Value> HeaderParser::read_scalar() {
    HYPURA_ASSIGN(const Stored stored, cursor_.read<Stored>());
    return Value(static_cast<Wide>(stored));
}

// A bool is a byte in the file; reading it as C++'s bool would be undefined for bytes other than 0 and 1.
Result<Value> HeaderParser::read_value(std::string_view key) {
    HYPURA_ASSIGN(const uint32_t kind, cursor_.read<uint32_t>());
    switch (static_cast<Kind>(kind)) {
        case Kind::kUint8:
            return read_scalar<uint8_t, uint64_t>();
        case Kind::kInt8:
            return read_scalar<int8_t, int64_t>();
        case Kind::kUint16:
            return read_scalar<uint16_t, uint64_t>();
        case Kind::kInt16:
            return read_scalar<int16_t, int64_t>();
        case Kind::kUint32:
            return read_scalar<uint32_t, uint64_t>();
        case Kind::kInt32:
            return read_scalar<int32_t, int64_t>();
        case Kind::kFloat32:
            return read_scalar<float, double>();
        case Kind::kBool:
            return read_scalar<uint8_t, bool>();
        case Kind::kString:
            return cursor_.read_string(kMaxStringBytes, "a metadata string");
        case Kind::kArray:
            return read_array(key);
        case Kind::kUint64:
            return read_scalar<uint64_t, uint64_t>();
        case Kind::kInt64:
            return read_scalar<int64_t, int64_t>();
        case Kind::kFloat64:
            return read_scalar<double, double>();
    }
    return fail(ErrorCode::kCorruptModel,
                "{}: metadata key {} has the unknown kind {}; the file is damaged, download "
                "it again",
                source_.name, printable(key), kind);
}

template <class Stored, class Wide>
Result<Value> HeaderParser::read_numbers(uint64_t count) {
    std::vector<Wide> numbers;
    numbers.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
        HYPURA_ASSIGN(const Stored stored, cursor_.read<Stored>());
        numbers.push_back(static_cast<Wide>(stored));
    }
    return Value(std::move(numbers));
}

Result<Value> HeaderParser::read_strings(uint64_t count) {
    std::vector<std::string> strings;
    strings.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
        HYPURA_ASSIGN(std::string text, cursor_.read_string(kMaxStringBytes, "a string of a metadata array"));
        strings.push_back(std::move(text));
    }
    return Value(std::move(strings));
}

constexpr uint64_t stored_bytes(Kind kind) {
    switch (kind) {
        case Kind::kUint16:
        case Kind::kInt16:
            return 2;
        case Kind::kUint32:
        case Kind::kInt32:
        case Kind::kFloat32:
            return 4;
        case Kind::kString:  // its length, at least
        case Kind::kUint64:
        case Kind::kInt64:
        case Kind::kFloat64:
            return 8;
        default:
            return 1;
    }
}

// Counts towards the limit of the whole file, so that many arrays cannot do what one may not.
Status HeaderParser::take_array_elements(uint64_t count, Kind kind) {
    HYPURA_TRY(cursor_.check_count(count, kMaxArrayElements - array_elements_, stored_bytes(kind), "array elements"));
    array_elements_ += count;
    return {};
}

Result<Value> HeaderParser::read_array(std::string_view key) {
    HYPURA_ASSIGN(const auto kind, cursor_.read<Kind>());
    HYPURA_ASSIGN(const uint64_t count, cursor_.read<uint64_t>());
    HYPURA_TRY(take_array_elements(count, kind));
    switch (kind) {
        case Kind::kUint8:
            return read_numbers<uint8_t, uint64_t>(count);
        case Kind::kInt8:
            return read_numbers<int8_t, int64_t>(count);
        case Kind::kUint16:
            return read_numbers<uint16_t, uint64_t>(count);
        case Kind::kInt16:
            return read_numbers<int16_t, int64_t>(count);
        case Kind::kUint32:
            return read_numbers<uint32_t, uint64_t>(count);
        case Kind::kInt32:
            return read_numbers<int32_t, int64_t>(count);
        case Kind::kFloat32:
            return read_numbers<float, double>(count);
        case Kind::kBool:
            return read_numbers<uint8_t, uint64_t>(count);
        case Kind::kString:
            return read_strings(count);
        case Kind::kUint64:
            return read_numbers<uint64_t, uint64_t>(count);
        case Kind::kInt64:
            return read_numbers<int64_t, int64_t>(count);
        case Kind::kFloat64:
            return read_numbers<double, double>(count);
        case Kind::kArray:
            break;  // ggml refuses arrays of arrays, too
    }
    return fail(ErrorCode::kCorruptModel,
                "{}: metadata key {} is an array of the unusable kind {}; the file is "
                "damaged, download or convert it again",
                source_.name, printable(key), std::to_underlying(kind));
}

Status HeaderParser::read_directory() {
    // Metadata came in between: only now does the count have to fit into what is left.
    HYPURA_TRY(cursor_.check_count(tensor_count_, kMaxTensors, kMinTensorEntryBytes, "tensors"));
    header_.tensors.reserve(tensor_count_);
    for (uint64_t i = 0; i < tensor_count_; ++i) {
        HYPURA_ASSIGN(TensorInfo tensor, read_tensor());
        header_.tensors.push_back(std::move(tensor));
    }
    return {};
}

Result<TensorInfo> HeaderParser::read_tensor() {
    TensorInfo tensor;
    HYPURA_ASSIGN(tensor.name, cursor_.read_string(kMaxTensorNameBytes, "a tensor name"));
    HYPURA_TRY(read_shape(tensor));
    HYPURA_TRY(read_type(tensor));
    HYPURA_ASSIGN(tensor.file_offset, cursor_.read<uint64_t>());  // relative until locate()
    HYPURA_ASSIGN(tensor.size_bytes, checked_tensor_bytes(source_.name, tensor));
    return tensor;
}

Status HeaderParser::read_shape(TensorInfo& tensor) {
    HYPURA_ASSIGN(const uint32_t dimensions, cursor_.read<uint32_t>());
    if (dimensions > kMaxDimensions)
        return flawed(ModelFlaw::kAbsurdCount,
                      "{}: tensor {} has {} dimensions, more than {}; the file is damaged, download it again",
                      source_.name, printable(tensor.name), dimensions, kMaxDimensions);
    for (uint64_t& extent : std::span(tensor.shape).first(dimensions)) {
        HYPURA_ASSIGN(extent, cursor_.read<uint64_t>());
    }
    return {};
}

Status HeaderParser::read_type(TensorInfo& tensor) {
    HYPURA_ASSIGN(const uint32_t id, cursor_.read<uint32_t>());
    const auto type = element_type(id);
    if (!type)
        return fail(ErrorCode::kUnsupportedModel,
                    "{}: tensor {} has element type {}, which this version does not know; use another quantization of "
                    "the model, or a newer hypura",
                    source_.name, printable(tensor.name), id);
    tensor.type = *type;
    return {};
}

Result<uint64_t> HeaderParser::alignment() const {
    const auto found = header_.metadata.find("general.alignment");
    if (found == header_.metadata.end()) return kDefaultAlignment;
    const auto* value = std::get_if<uint64_t>(&found->second);
    if (value != nullptr && std::has_single_bit(*value) && *value <= kMaxAlignment) return *value;
    return fail(ErrorCode::kCorruptModel,
                "{}: general.alignment is no power of two up to {}; the file is damaged, download or convert it again",
                source_.name, kMaxAlignment);
}

Status HeaderParser::locate_tensors() {
    HYPURA_ASSIGN(const uint64_t aligned_to, alignment());
    header_.data_offset = align_up(cursor_.position(), aligned_to);
    // A file without tensors (a vocabulary, the first part of a split) may end without padding.
    if (header_.tensors.empty()) header_.data_offset = std::min(header_.data_offset, source_.size_bytes);
    for (TensorInfo& tensor : header_.tensors) HYPURA_TRY(locate(tensor, aligned_to));
    return {};
}

Status HeaderParser::locate(TensorInfo& tensor, uint64_t aligned_to) const {
    if (!is_aligned(tensor.file_offset, aligned_to))
        return flawed(ModelFlaw::kMisaligned,
                      "{}: tensor {} begins at {}, which is no multiple of {}; the file is damaged, download it again",
                      source_.name, printable(tensor.name), tensor.file_offset, aligned_to);
    const auto begin = checked_add(header_.data_offset, tensor.file_offset);
    const auto end = begin ? checked_add(*begin, tensor.size_bytes) : std::nullopt;
    if (!end)
        return flawed(ModelFlaw::kTruncated,
                      "{}: tensor {} lies at the impossible offset {}; the file is damaged, download it again",
                      source_.name, printable(tensor.name), tensor.file_offset);
    if (*end > source_.size_bytes)
        return flawed(ModelFlaw::kTruncated,
                      "{}: the file is truncated: tensor {} needs bytes up to {}, the file has {}; download it again",
                      source_.name, printable(tensor.name), *end, source_.size_bytes);
    tensor.file_offset = *begin;
    return {};
}

}  // namespace

Result<Header> read_header(const ByteSource& source) { return HeaderParser(source).parse(); }

}  // namespace hypura::gguf
