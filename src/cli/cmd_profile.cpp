// hypura profile: what this machine and the disk under a path can do, measured once and saved.
#include "base/bytes.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/profile_store.h"
#include "engine/machine_probe.h"
#include "hardware/memory.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <ctime>
#include <format>
#include <memory>
#include <set>
#include <vector>

namespace hypura::cli {
namespace {

struct ProfileFlags {
    std::string path = ".";
    std::string rpc_servers;
    bool json = false;
    bool again = false;
};

std::string rate_text(double bytes_per_second) { return format_bytes(static_cast<uint64_t>(bytes_per_second)) + "/s"; }

std::string age_text(int64_t measured_s) {
    const int64_t minutes = (std::time(nullptr) - measured_s) / 60;
    if (minutes < 2) return "just now";
    if (minutes < 120) return std::format("{} minutes ago", minutes);
    return minutes < int64_t{48} * 60 ? std::format("{} hours ago", minutes / 60)
                                      : std::format("{} days ago", minutes / 60 / 24);
}

std::string features_text(const placement::Machine& machine) {
    std::string text;
    for (const std::string& feature : machine.features) text += (text.empty() ? "" : " ") + feature;
    return text;
}

// Memory is asked for every time: nothing changes faster.
Result<std::string> machine_text(const placement::Machine& machine) {
    HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
    return std::format(
        "processor  {}, {} cores: {}\nmemory     {}, of which {} can be used now (limit: {}), read at {}\nmeasured   "
        "{}\n",
        machine.processor, machine.cores, features_text(machine), format_bytes(limits.physical_bytes),
        format_bytes(limits.usable_bytes()), limits.limited_by, rate_text(machine.memory_bytes_per_second),
        age_text(machine.measured_s));
}

std::string product_name(const placement::MatmulRate& rate) {
    return rate.format + (rate.kind.repacked ? " repack" : "") + (rate.kind.routed ? " routed" : "");
}

// A device may rearrange weights in several ways: the batches of each come in the order of its single columns.
std::string batch_text(const placement::MatmulRate& single, std::vector<placement::MatmulRate>& batches) {
    const auto batch = std::ranges::find_if(batches, [&](const placement::MatmulRate& rate) {
        return rate.format == single.format && rate.kind == single.kind;
    });
    if (batch == batches.end()) return "";
    std::string text = std::format("{:>17.1f} GFLOPS", batch->flops / 1e9);
    batches.erase(batch);
    return text;
}

std::string device_text(const placement::ComputeDevice& device) {
    std::string text = std::format("\n{} ({}, {}): {} free of {}", device.name, device.kind, device.description,
                                   format_bytes(device.free_bytes), format_bytes(device.total_bytes));
    if (device.upload_bytes_per_second > 0)
        text += ", uploads at " + rate_text(device.upload_bytes_per_second) +
                (device.writes_directly ? ", also while it computes" : "");
    if (device.trip_us > 0) text += std::format(", {:.0f} us there and back", device.trip_us);
    text += std::format(", {:.1f} us a graph node\n{:<20}{:>18}{:>24}\n", device.node_us, "products", "of 1 column",
                        "of many columns");
    std::vector<placement::MatmulRate> batches = device.rates;
    std::erase_if(batches, [](const placement::MatmulRate& rate) { return rate.batch_tokens == 1; });
    for (const placement::MatmulRate& single : device.rates) {
        if (single.batch_tokens > 1) continue;
        text += std::format("{:<20}{:>18}{}\n", product_name(single), rate_text(single.weight_bytes_per_second),
                            batch_text(single, batches));
    }
    return text;
}

std::string proof_text(const placement::DiskProfile& disk) {
    if (!disk.direct) return "the file system has no direct reads: these are of the page cache and the disk together";
    if (!disk.proven) return "direct reads; that the page cache did not answer could not be proven";
    return "direct reads that return true bytes, page cache proven idle";
}

std::string disk_text(const placement::DiskProfile& disk) {
    std::set<uint32_t> depths;
    for (const storage::DiskPoint& point : disk.points) depths.insert(point.cell.queue_depth);
    std::string text = std::format("\ndisk {}, measured {} at {}{}\n{}\n{:<12}", disk.key, age_text(disk.measured_s),
                                   disk.path, disk.made_file ? " in a new file" : "", proof_text(disk), "read size");
    for (const uint32_t depth : depths) text += std::format("{:>26}", std::format("depth {}", depth));
    uint32_t request_bytes = 0;
    for (const storage::DiskPoint& point : disk.points) {
        if (point.cell.request_bytes != request_bytes)
            text += std::format("\n{:<12}", format_bytes(point.cell.request_bytes));
        request_bytes = point.cell.request_bytes;
        text += std::format("{:>16} {:>6} us", rate_text(point.bytes_per_second), point.median_us);
    }
    return text + "\n";
}

Result<std::string> profile_text(const placement::Machine& machine, const std::string& path) {
    HYPURA_ASSIGN(std::string text, machine_text(machine));
    for (const placement::ComputeDevice& device : machine.devices) text += device_text(device);
    if (const placement::DiskProfile* disk = engine::known_disk(machine, path)) text += disk_text(*disk);
    return text;
}

Status profile(const Environment& environment, const ProfileFlags& flags) {
    const ProfileUse use = flags.again ? ProfileUse::kMeasureAgain : ProfileUse::kSaved;
    HYPURA_TRY(engine::add_remote_devices(split_at_commas(flags.rpc_servers)));
    HYPURA_ASSIGN(const placement::Machine machine, profile_machine(environment, flags.path, use));
    if (flags.json) return print_text(placement::machine_json(machine));
    HYPURA_ASSIGN(const std::string text, profile_text(machine, flags.path));
    return print_text(text);
}

}  // namespace

void add_profile(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<ProfileFlags>();
    CLI::App* command = app.add_subcommand("profile", "Measure this machine and a disk, and save the figures");
    command->add_option("PATH", flags->path, "a model, or a folder on the disk to measure (default: here)");
    command->add_option("--rpc", flags->rpc_servers, "also measure these ggml-rpc-servers: host:port,...");
    command->add_flag("--json", flags->json, "print JSON");
    command->add_flag("--again", flags->again, "measure even what is saved and fresh");
    command->callback(
        [flags, &context] { context.action = [flags, &context] { return profile(context.environment, *flags); }; });
}

}  // namespace hypura::cli
