// What the person at the terminal sees beside the text: progress and colours, on stderr, and only on a terminal.
#pragma once

#include "cli/command.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace hypura::cli {

enum class ProgressUnit { kBytes, kTokens };

struct Progress {
    std::string_view label;
    ProgressUnit unit = ProgressUnit::kBytes;
    uint64_t done = 0;
    uint64_t total = 0;
    int64_t elapsed_us = 0;
};

// "loading  [##########..............]  42%  1.20 GiB of 2.86 GiB  1.10 GiB/s  2 s left"
std::string progress_line(const Progress& progress);

// One line that is drawn over itself; nothing at all when stderr is no terminal. Erased on destruction.
class ProgressBar {
public:
    ProgressBar(const Environment& environment, std::string label, ProgressUnit unit);
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;
    ~ProgressBar() { clear(); }

    void update(uint64_t done, uint64_t total);
    void clear();

private:
    bool enabled_;
    std::string label_;
    ProgressUnit unit_;
    int64_t begin_us_;
    int64_t drawn_us_ = 0;
    bool visible_ = false;
};

// Grey on a terminal with colours, else the text itself.
std::string dimmed(const Environment& environment, std::string_view text);

void print_error(const Environment& environment, std::string_view message);
// To stderr, as it is.
void print_note(std::string_view text);
// To stdout, at once.
Status print_text(std::string_view text);

}  // namespace hypura::cli
