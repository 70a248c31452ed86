// GGUF files for tests: valid ones through our writer, and arbitrary, also wrong ones, byte by byte.
#pragma once

#include "gguf/writer.h"

#include <cstdint>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::test {

inline constexpr uint32_t kF32 = 0;  // element type numbers
inline constexpr uint32_t kQ8_0 = 8;

// Puts a file together as its bytes follow each other; nothing is checked.
class GgufBytes {
public:
    template <class T>
    GgufBytes& number(T value) {
        bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
        return *this;
    }
    GgufBytes& text(std::string_view text) {
        bytes_ += text;
        return *this;
    }
    GgufBytes& string(std::string_view value) { return number<uint64_t>(value.size()).text(value); }

    GgufBytes& start(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
        return text("GGUF").number(version).number(tensors).number(keys);
    }
    GgufBytes& uint32_key(std::string_view key, uint32_t value) {
        return string(key).number<uint32_t>(4).number(value);
    }
    GgufBytes& array_key(std::string_view key, uint32_t kind, uint64_t count) {
        return string(key).number<uint32_t>(9).number(kind).number(count);
    }
    GgufBytes& tensor(std::string_view name, std::initializer_list<uint64_t> shape, uint32_t type, uint64_t offset) {
        string(name).number(static_cast<uint32_t>(shape.size()));
        for (const uint64_t extent : shape) number(extent);
        return number(type).number(offset);
    }
    // Ends the header and appends that much tensor data.
    GgufBytes& data(size_t bytes, size_t alignment = 32) {
        bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
        bytes_.resize(bytes_.size() + bytes);
        return *this;
    }

    const std::string& bytes() const { return bytes_; }

private:
    std::string bytes_;
};

inline gguf::TensorSpec tensor_spec(std::string name, std::string_view type, std::vector<uint64_t> shape) {
    return {std::move(name), gguf::element_type_by_name(type).value(), std::move(shape)};
}

// What fill_pattern puts at one place of a tensor.
inline std::byte pattern_byte(size_t tensor, uint64_t offset) {
    return static_cast<std::byte>((offset * 31 + tensor * 7 + offset / 251) & 0xff);
}

inline void fill_pattern(size_t tensor, uint64_t offset, std::span<std::byte> chunk) {
    for (size_t i = 0; i < chunk.size(); ++i) chunk[i] = pattern_byte(tensor, offset + i);
}

// Throws on an error, since a test cannot go on without its file.
inline void write_test_model(const std::string& path, const gguf::Metadata& metadata,
                             std::span<const gguf::TensorSpec> tensors) {
    if (const auto written = gguf::write_model(path, metadata, tensors, fill_pattern); !written)
        throw std::runtime_error(written.error().message);
}

}  // namespace hypura::test
