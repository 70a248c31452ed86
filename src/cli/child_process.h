// Runs another program, or this one once more, and says what it cost.
#pragma once

#include "base/status.h"

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::cli {

enum class ChildStream { kOut, kErr };

struct ChildSpec {
    std::vector<std::string> arguments;  // the first is the program: a path, or a name to look for on PATH
    std::string input;                   // its standard input
    std::string cage_entrance;           // written to before the program begins (hardware/memory_cage.h); empty: none
    // Each whole line of its output as it comes, without the newline; may be empty.
    std::function<void(pid_t child, ChildStream stream, std::string_view line)> on_line;
};

struct ChildResult {
    int exit_code = 0;  // -1: ended by a signal
    int signal = 0;
    std::string out;
    std::string err;
    int64_t wall_us = 0;
    int64_t user_us = 0;
    int64_t system_us = 0;
    uint64_t read_bytes = 0;  // from devices, page cache misses included
    uint64_t minor_faults = 0;
    uint64_t major_faults = 0;
};

// Waits for the program's end; it ends with us if we are killed. kNotFound when there is no such program.
Result<ChildResult> run_child(const ChildSpec& spec);

// What a living process has read from devices, and its faults, as /proc tells; zeros when it does not.
struct ProcessCost {
    uint64_t read_bytes = 0;
    uint64_t minor_faults = 0;
    uint64_t major_faults = 0;
    int64_t user_us = 0;
    int64_t system_us = 0;
};
ProcessCost cost_of(pid_t process);
ProcessCost operator-(const ProcessCost& after, const ProcessCost& before);

}  // namespace hypura::cli
