#include "hardware/text_file.h"

#include <charconv>
#include <fstream>
#include <iterator>

namespace hypura::hardware {

std::optional<std::string> read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return std::nullopt;
    std::string text(std::istreambuf_iterator<char>(file), {});
    if (file.bad()) return std::nullopt;
    return text;
}

std::optional<uint64_t> leading_number(std::string_view text) {
    const size_t begin = text.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return std::nullopt;
    uint64_t number = 0;
    const auto [rest, error] = std::from_chars(text.data() + begin, text.data() + text.size(), number);
    if (error != std::errc()) return std::nullopt;
    return number;
}

std::optional<uint64_t> keyed_number(std::string_view text, std::string_view key) {
    for (std::string_view line : split(text, '\n')) {
        if (!line.starts_with(key)) continue;
        std::string_view rest = line.substr(key.size());
        if (rest.starts_with(':')) rest.remove_prefix(1);
        // "inactive_file" must not answer for "inactive_file_x".
        if (rest.starts_with(' ') || rest.starts_with('\t')) return leading_number(rest);
    }
    return std::nullopt;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> pieces;
    while (true) {
        const size_t end = text.find(separator);
        pieces.push_back(text.substr(0, end));
        if (end == std::string_view::npos) return pieces;
        text.remove_prefix(end + 1);
    }
}

}  // namespace hypura::hardware
