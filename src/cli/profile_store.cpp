#include "cli/profile_store.h"

#include "cli/console.h"
#include "engine/machine_probe.h"

#include <algorithm>
#include <ctime>

namespace hypura::cli {
namespace {

// On a terminal the progress is worth a line each; a log needs none of it.
engine::ProbeProgress progress_notes(const Environment& environment) {
    if (!environment.stderr_is_terminal) return {};
    return [&environment](std::string_view what) {
        print_note(dimmed(environment, std::format("measuring {}", what)) + "\n");
    };
}

bool usable(const Result<placement::Machine>& saved, const std::string& fingerprint) {
    return saved && saved->fingerprint == fingerprint &&
           std::time(nullptr) - saved->measured_s < placement::kStaleAfterSeconds;
}

}  // namespace

std::string profile_file(const Environment& environment) {
    return environment.cache_directory.empty() ? "" : environment.cache_directory + "/profile.json";
}

Result<placement::Machine> profile_machine(const Environment& environment, const std::string& path, ProfileUse use) {
    const std::string file = profile_file(environment);
    const engine::ProbeProgress progress = progress_notes(environment);
    HYPURA_ASSIGN(const std::string fingerprint, engine::this_fingerprint());
    auto machine = placement::load_machine(file);
    const bool fresh = use == ProfileUse::kMeasureAgain || !usable(machine, fingerprint);
    if (fresh) machine = engine::measure_machine(0, progress);
    if (!machine) return machine;
    bool is_changed = fresh || engine::measure_remote_devices(*machine, progress);
    if (fresh || engine::known_disk(*machine, path) == nullptr) {
        HYPURA_ASSIGN(placement::DiskProfile disk, engine::measure_disk(path, progress));
        std::erase_if(machine->disks, [&](const auto& known) { return known.key == disk.key; });
        machine->disks.push_back(std::move(disk));
        is_changed = true;
    }
    if (is_changed && !file.empty()) HYPURA_TRY(placement::save_machine(*machine, file));
    return machine;
}

}  // namespace hypura::cli
