// What a model's file, or set of split files, says about itself: metadata and a directory of tensors.
//
// Reading is bounded: no allocation depends on a number in the file before that number was checked against the file's
// size and the limits in limits.h. Nothing but headers is read; tensor bytes are the business of `storage`.
//
// Format: GGUF version 2 and 3, little-endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
#pragma once

#include "base/status.h"
#include "gguf/types.h"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace hypura::gguf {

// A metadata value. Integers of every width are widened; arrays keep their element kind.
using Value = std::variant<uint64_t, int64_t, double, bool, std::string, std::vector<uint64_t>, std::vector<int64_t>,
                           std::vector<double>, std::vector<std::string>>;
using Metadata = std::map<std::string, Value, std::less<>>;

// One tensor of the directory.
struct TensorInfo {
    std::string name;
    ElementType type{};
    std::array<uint64_t, 4> shape{1, 1, 1, 1};  // ggml order: shape[0] is the contiguous dimension
    uint32_t part = 0;                          // index into ModelFile::parts
    uint64_t file_offset = 0;                   // of the first byte, from the beginning of that part
    uint64_t size_bytes = 0;                    // type and shape multiplied out, unpadded
};

// One file of the set, with what identifies it: a file that changes under us is noticed (check_unchanged).
struct Part {
    std::string path;
    uint64_t size_bytes = 0;
    uint64_t data_offset = 0;  // header bytes; tensor data begins here
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t modified_ns = 0;
};

struct ModelFile {
    std::vector<Part> parts;          // at least one; in split order
    Metadata metadata;                // of the first part
    std::vector<TensorInfo> tensors;  // in file order, all parts
    uint64_t tensor_bytes = 0;        // sum of size_bytes

    // Typed look-ups; empty when the key is absent or of another kind.
    std::optional<uint64_t> find_uint(std::string_view key) const;
    std::optional<std::string_view> find_string(std::string_view key) const;
    const TensorInfo* find_tensor(std::string_view name) const;
};

// Opens `path`; when its metadata says that it is one part of a split (split.count > 1), finds the other parts beside
// it by llama.cpp's pattern NAME-00001-of-00003.gguf and reads them all. `path` may name any part. Errors: kNotFound
// (also a missing part, by name), kNotAFile, kPermissionDenied, kNotGguf, kCorruptModel, kUnsupportedModel (another
// byte order or version, an unknown element type).
Result<ModelFile> open_model(const std::string& path);

// kModelChanged when a part's size, inode or modification time is no longer what open_model saw.
Status check_unchanged(const ModelFile& model);

}  // namespace hypura::gguf
