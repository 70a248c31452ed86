#include "server/text_util.h"

#include <array>
#include <charconv>
#include <cmath>
#include <format>
#include <mutex>
#include <random>

namespace hypura::server {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kForever = milliseconds::max();

milliseconds from_seconds(double seconds) {
    if (seconds < 0) return kForever;
    constexpr double kLongest = 1e9;  // 30 years: no overflow further on
    return milliseconds(static_cast<int64_t>(std::fmin(seconds, kLongest) * 1000));
}

// Takes a decimal number from the front of `text`; empty when there is none.
std::optional<double> take_number(std::string_view& text) {
    double number = 0;
    const auto [rest, error] =
        std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
    if (error != std::errc()) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(rest - text.data()));
    return number;
}

std::optional<double> take_unit_seconds(std::string_view& text) {
    struct Unit {
        std::string_view name;
        double seconds;
    };
    constexpr std::array kUnits = {Unit{"ns", 1e-9}, Unit{"us", 1e-6}, Unit{"ms", 1e-3},
                                   Unit{"s", 1},     Unit{"m", 60},    Unit{"h", 3600}};
    for (const Unit& unit : kUnits) {
        if (!text.starts_with(unit.name)) continue;
        text.remove_prefix(unit.name.size());
        return unit.seconds;
    }
    return std::nullopt;
}

// "1h30m" without its sign.
std::optional<double> parse_go_duration(std::string_view text) {
    double seconds = 0;
    while (!text.empty()) {
        const auto number = take_number(text);
        const auto unit = number ? take_unit_seconds(text) : std::nullopt;
        if (!unit) return std::nullopt;
        seconds += *number * *unit;
    }
    return seconds;
}

}  // namespace

std::string random_id(std::string_view prefix, size_t length) {
    static constexpr std::string_view kCharacters = "abcdefghijklmnopqrstuvwxyz0123456789";
    static std::mutex mutex;
    static std::mt19937_64 generator{std::random_device{}()};
    const std::scoped_lock lock(mutex);
    std::uniform_int_distribution<size_t> index(0, kCharacters.size() - 1);
    std::string id(prefix);
    for (size_t i = 0; i < length; ++i) id += kCharacters[index(generator)];
    return id;
}

Json logprob_json(const TokenLogprob& entry) {
    Json bytes = Json::array();
    for (const char byte : entry.token) bytes.push_back(static_cast<unsigned char>(byte));
    return {{"token", entry.token}, {"logprob", entry.logprob}, {"bytes", std::move(bytes)}};
}

std::string rfc3339(std::chrono::system_clock::time_point time) {
    return std::format("{:%FT%T}Z", std::chrono::time_point_cast<std::chrono::nanoseconds>(time));
}

int64_t unix_seconds(std::chrono::system_clock::time_point time) {
    return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

ApiResult<KeepAlive> parse_keep_alive(const Json* value) {
    if (value == nullptr) return KeepAlive();
    if (value->is_number()) return from_seconds(value->get<double>());
    if (value->is_string()) return parse_keep_alive_text(value->get<std::string>());
    return refuse(400, "keep_alive must be a number of seconds or a duration such as \"5m\"");
}

ApiResult<KeepAlive> parse_keep_alive_text(std::string_view text) {
    if (text.empty()) return KeepAlive();
    const bool negative = text.starts_with('-');
    std::string_view digits = text.substr(negative ? 1 : 0);
    std::string_view rest = digits;
    const auto number = take_number(rest);
    const auto seconds = number && rest.empty() ? number : parse_go_duration(digits);
    if (!seconds || digits.empty()) return refuse(400, "time: invalid duration \"{}\"", text);
    return from_seconds(negative && *seconds > 0 ? -*seconds : *seconds);
}

std::string base64(std::span<const unsigned char> bytes) {
    static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        const size_t here = std::min<size_t>(3, bytes.size() - i);
        uint32_t group = 0;
        for (size_t k = 0; k < 3; ++k) group = group << 8 | (k < here ? bytes[i + k] : 0U);
        for (size_t k = 0; k < 4; ++k) text += k <= here ? kDigits[group >> (18 - 6 * k) & 63U] : '=';
    }
    return text;
}

std::string joined(std::string first, std::string_view second) {
    if (!first.empty() && !second.empty()) first += "\n\n";
    return first += second;
}

}  // namespace hypura::server
