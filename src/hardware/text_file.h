// The small text files of /proc and /sys: read whole, parsed loosely, absent ones are empty.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::hardware {

// Empty when the file is absent or unreadable: to callers both mean that the kernel does not say.
std::optional<std::string> read_text(const std::string& path);

// The decimal number that `text` begins with, blanks skipped.
std::optional<uint64_t> leading_number(std::string_view text);

// The number after `key` in text of "key value" lines; a colon after the key and units after the value are allowed.
std::optional<uint64_t> keyed_number(std::string_view text, std::string_view key);

std::vector<std::string_view> split(std::string_view text, char separator);

}  // namespace hypura::hardware
