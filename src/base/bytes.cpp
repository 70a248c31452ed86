#include "base/bytes.h"

#include <array>
#include <charconv>
#include <cmath>
#include <string>

namespace hypura {
namespace {

struct Unit {
    std::string_view suffix;  // lower case
    double bytes;
};

constexpr double kTiB = 1024.0 * static_cast<double>(kGiB);
constexpr std::array kUnits = {
    Unit{"", 1},     Unit{"b", 1},      Unit{"k", 1024},   Unit{"kib", 1024}, Unit{"kb", 1e3},
    Unit{"m", kMiB}, Unit{"mib", kMiB}, Unit{"mb", 1e6},   Unit{"g", kGiB},   Unit{"gib", kGiB},
    Unit{"gb", 1e9}, Unit{"t", kTiB},   Unit{"tib", kTiB}, Unit{"tb", 1e12},
};

std::string_view without_spaces_around(std::string_view text) {
    while (text.starts_with(' ')) text.remove_prefix(1);
    while (text.ends_with(' ')) text.remove_suffix(1);
    return text;
}

std::string lower(std::string_view text) {
    std::string lowered(text);
    for (char& c : lowered)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return lowered;
}

std::optional<double> unit_bytes(std::string_view suffix, uint64_t whole_bytes) {
    if (suffix == "%") return static_cast<double>(whole_bytes) / 100.0;
    for (const Unit& unit : kUnits)
        if (unit.suffix == suffix) return unit.bytes;
    return std::nullopt;
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text, uint64_t whole_bytes, std::string_view option) {
    const std::string lowered = lower(without_spaces_around(text));
    double number = 0;
    const char* end = lowered.data() + lowered.size();
    const auto [rest, error] = std::from_chars(lowered.data(), end, number, std::chars_format::fixed);
    const std::string_view suffix = without_spaces_around({rest, end});
    const auto unit = unit_bytes(suffix, whole_bytes);
    const bool usable = error == std::errc() && unit && number >= 0 && number * *unit < 9e18;
    if (!usable)
        return fail(ErrorCode::kInvalidArgument, "{}: '{}' is not a size; write 3GiB, 512MiB or 40%", option, text);
    if (suffix == "%" && number > 100)
        return fail(ErrorCode::kInvalidArgument, "{}: {} is more than there is; write at most 100%", option, text);
    return static_cast<uint64_t>(std::llround(number * *unit));
}

std::string format_bytes(uint64_t bytes) {
    static constexpr std::array kNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = static_cast<double>(bytes);
    size_t unit = 0;
    for (; value >= 999.5 && unit + 1 < kNames.size(); ++unit) value /= 1024;
    if (unit == 0) return std::format("{} B", bytes);
    const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    return std::format("{:.{}f} {}", value, decimals, kNames[unit]);
}

std::string format_bytes_up(uint64_t bytes) {
    const bool is_small = bytes <= 16 * kMiB;
    const uint64_t unit_bytes = is_small ? kKiB : kMiB;
    return std::format("{}{}", bytes / unit_bytes + (bytes % unit_bytes == 0 ? 0 : 1), is_small ? "KiB" : "MiB");
}

}  // namespace hypura
