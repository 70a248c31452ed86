#include "cli/bench_sample.h"

#include <algorithm>
#include <charconv>
#include <format>
#include <ranges>

namespace hypura::cli {

std::string BenchCase::name() const { return decode ? "decode" : std::format("prompt {}", tokens); }

std::string BenchCase::text() const {
    return decode ? std::format("decode:{}:{}:{}", prompt_tokens, warm_up_tokens, tokens)
                  : std::format("prompt:{}", tokens);
}

Result<BenchCase> parse_bench_case(const std::string& text) {
    std::vector<uint32_t> numbers;
    const size_t colon = text.find(':');
    for (const auto part : std::views::split(text.substr(std::min(colon, text.size() - 1) + 1), ':')) {
        uint32_t number = 0;
        if (std::from_chars(part.data(), part.data() + part.size(), number).ptr == part.data() + part.size())
            numbers.push_back(number);
    }
    if (text.starts_with("prompt:") && numbers.size() == 1) return BenchCase{.tokens = numbers[0]};
    if (text.starts_with("decode:") && numbers.size() == 3) return BenchCase{true, numbers[0], numbers[1], numbers[2]};
    return fail(ErrorCode::kInvalidArgument, "--child: '{}' is neither prompt:N nor decode:N:N:N", text);
}

double Stretch::tokens_per_second() const {
    return static_cast<double>(tokens) * 1e6 / static_cast<double>(std::max<int64_t>(wall_us, 1));
}

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::ranges::sort(values);
    const size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double spread(const std::vector<double>& values) {
    const double middle = median(values);
    if (values.size() < 2 || middle == 0) return 0;
    const auto [least, most] = std::ranges::minmax(values);
    return (most - least) / middle;
}

}  // namespace hypura::cli
