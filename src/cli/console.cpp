#include "cli/console.h"

#include "base/bytes.h"
#include "base/clock.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <format>

namespace hypura::cli {
namespace {

constexpr size_t kBarCells = 24;
constexpr int64_t kShowAfterUs = 300'000;  // what is over sooner needs no bar
constexpr int64_t kRedrawEveryUs = 100'000;
constexpr std::string_view kEraseLine = "\r\033[2K";

double share_done(const Progress& progress) {
    if (progress.total == 0) return 0;
    return std::min(1.0, static_cast<double>(progress.done) / static_cast<double>(progress.total));
}

std::string bar(double share) {
    const auto full = static_cast<size_t>(share * static_cast<double>(kBarCells));
    return std::string(full, '#') + std::string(kBarCells - full, '.');
}

std::string amount(const Progress& progress) {
    if (progress.unit == ProgressUnit::kBytes)
        return std::format("{} of {}", format_bytes(progress.done), format_bytes(progress.total));
    return std::format("{} of {} tokens", progress.done, progress.total);
}

std::string rate_text(ProgressUnit unit, double per_second) {
    if (unit == ProgressUnit::kBytes) return format_bytes(static_cast<uint64_t>(per_second)) + "/s";
    return std::format("{:.1f} tok/s", per_second);
}

std::string duration_text(double seconds) {
    const auto whole = static_cast<int64_t>(std::ceil(seconds));
    if (whole < 60) return std::format("{} s", whole);
    if (whole < 3600) return std::format("{} min {:02} s", whole / 60, whole % 60);
    return std::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace

std::string progress_line(const Progress& progress) {
    const double share = share_done(progress);
    std::string line =
        std::format("{}  [{}] {:3.0f}%  {}", progress.label, bar(share), std::floor(share * 100), amount(progress));
    if (progress.elapsed_us <= 0 || progress.done == 0) return line;
    const double per_second = static_cast<double>(progress.done) * 1e6 / static_cast<double>(progress.elapsed_us);
    const double left = static_cast<double>(progress.total - std::min(progress.done, progress.total)) / per_second;
    return std::format("{}  {}  {} left", line, rate_text(progress.unit, per_second), duration_text(left));
}

ProgressBar::ProgressBar(const Environment& environment, std::string label, ProgressUnit unit)
    : enabled_(environment.stderr_is_terminal), label_(std::move(label)), unit_(unit), begin_us_(now_us()) {}

void ProgressBar::update(uint64_t done, uint64_t total) {
    const int64_t now = now_us();
    const bool due = now - begin_us_ >= kShowAfterUs && now - drawn_us_ >= kRedrawEveryUs;
    if (!enabled_ || !due) return;
    drawn_us_ = now;
    visible_ = true;
    const Progress progress{label_, unit_, done, total, now - begin_us_};
    print_note(std::format("{}{}", kEraseLine, progress_line(progress)));
}

void ProgressBar::clear() {
    if (visible_) print_note(kEraseLine);
    visible_ = false;
}

std::string dimmed(const Environment& environment, std::string_view text) {
    return environment.colours ? std::format("\033[2m{}\033[0m", text) : std::string(text);
}

void print_error(const Environment& environment, std::string_view message) {
    const std::string_view name = environment.colours ? "\033[1;31mhypura:\033[0m" : "hypura:";
    print_note(std::format("{} {}\n", name, message));
}

void print_note(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
}

Status print_text(std::string_view text) {
    const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    if (!written) return std::unexpected(error_from_errno(errno, "write", "standard output"));
    return {};
}

}  // namespace hypura::cli
