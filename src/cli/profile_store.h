// The saved profile of this machine: $XDG_CACHE_HOME/hypura/profile.json.
#pragma once

#include "cli/command.h"
#include "placement/machine.h"

#include <string>

namespace hypura::cli {

// Empty when there is no home to save it in.
std::string profile_file(const Environment& environment);

enum class ProfileUse {
    kSaved,        // re-use what is saved and fresh, measure the rest, save
    kMeasureAgain  // measure all of it
};

// The machine with the disk under `path` and the other machines' devices that were added; what is missing, stale (30
// days) or of another machine is measured, with notes on stderr, and saved.
Result<placement::Machine> profile_machine(const Environment& environment, const std::string& path, ProfileUse use);

}  // namespace hypura::cli
