#include "gguf/types.h"

#include <algorithm>
#include <array>

namespace hypura::gguf {
namespace {

// Numbers 4, 5, 31 to 33 and 36 to 38 named types that ggml has removed.
constexpr std::array kTypes = {
    ElementType{0, "f32", 1, 4},         ElementType{1, "f16", 1, 2},         ElementType{2, "q4_0", 32, 18},
    ElementType{3, "q4_1", 32, 20},      ElementType{6, "q5_0", 32, 22},      ElementType{7, "q5_1", 32, 24},
    ElementType{8, "q8_0", 32, 34},      ElementType{9, "q8_1", 32, 36},      ElementType{10, "q2_K", 256, 84},
    ElementType{11, "q3_K", 256, 110},   ElementType{12, "q4_K", 256, 144},   ElementType{13, "q5_K", 256, 176},
    ElementType{14, "q6_K", 256, 210},   ElementType{15, "q8_K", 256, 292},   ElementType{16, "iq2_xxs", 256, 66},
    ElementType{17, "iq2_xs", 256, 74},  ElementType{18, "iq3_xxs", 256, 98}, ElementType{19, "iq1_s", 256, 50},
    ElementType{20, "iq4_nl", 32, 18},   ElementType{21, "iq3_s", 256, 110},  ElementType{22, "iq2_s", 256, 82},
    ElementType{23, "iq4_xs", 256, 136}, ElementType{24, "i8", 1, 1},         ElementType{25, "i16", 1, 2},
    ElementType{26, "i32", 1, 4},        ElementType{27, "i64", 1, 8},        ElementType{28, "f64", 1, 8},
    ElementType{29, "iq1_m", 256, 56},   ElementType{30, "bf16", 1, 2},       ElementType{34, "tq1_0", 256, 54},
    ElementType{35, "tq2_0", 256, 66},   ElementType{39, "mxfp4", 32, 17},    ElementType{40, "nvfp4", 64, 36},
    ElementType{41, "q1_0", 128, 18},    ElementType{42, "q2_0", 64, 18},
};

char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, {}, to_lower, to_lower);
}

}  // namespace

std::optional<ElementType> element_type(uint32_t id) {
    const auto found = std::ranges::find(kTypes, id, &ElementType::id);
    if (found == kTypes.end()) return std::nullopt;
    return *found;
}

std::optional<ElementType> element_type_by_name(std::string_view name) {
    const auto matches = [name](const ElementType& type) { return equal_ignoring_case(type.name, name); };
    const auto found = std::ranges::find_if(kTypes, matches);
    if (found == kTypes.end()) return std::nullopt;
    return *found;
}

}  // namespace hypura::gguf
