// The tensor element types of GGUF: how many elements a block holds and how many bytes it takes.
// Source: the format description of GGUF and ggml's public enum ggml_type, whose numbers these are. The engine's tests
// compare this table with the installed libggml, entry by entry.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace hypura::gguf {

struct ElementType {
    uint32_t id;              // number in the file
    std::string_view name;    // "q4_K"
    uint32_t block_elements;  // elements a block
    uint32_t block_bytes;     // bytes a block
};

// Empty for a number that this version does not know.
std::optional<ElementType> element_type(uint32_t id);
std::optional<ElementType> element_type_by_name(std::string_view name);  // letter case does not matter

}  // namespace hypura::gguf
