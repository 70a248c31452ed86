#include "cli/doctor.h"

#include "base/bytes.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <format>

namespace hypura::cli {
namespace {

constexpr uint64_t kLeastMemoryBytes = 256 * kMiB;

Finding good(std::string subject, std::string found) {
    return {std::move(subject), std::move(found), Verdict::kGood, ""};
}

Finding advise(std::string subject, std::string found, std::string advice) {
    return {std::move(subject), std::move(found), Verdict::kAdvice, std::move(advice)};
}

Finding memory_finding(const hardware::MemoryLimits& memory) {
    const std::string found =
        std::format("{} can be used of {}", format_bytes(memory.usable_bytes()), format_bytes(memory.physical_bytes));
    if (memory.usable_bytes() < kLeastMemoryBytes)
        return {"memory", found, Verdict::kStops, "close other programs: not even small models fit"};
    return good("memory", found);
}

Finding cgroup_finding(const hardware::MemoryLimits& memory) {
    if (memory.cgroup_limit_bytes == 0) return good("control group", "no memory limit");
    const std::string found = std::format("{} of {} used ({})", format_bytes(memory.cgroup_used_bytes),
                                          format_bytes(memory.cgroup_limit_bytes), memory.limited_by);
    if (memory.limited_by == "machine") return good("control group", found);
    return advise("control group", found, "hypura keeps to this limit; raise it to give a model more memory");
}

Finding swap_finding(const hardware::HostSettings& settings) {
    if (settings.swap_bytes == 0) return good("swap", "none");
    const std::string found =
        std::format("{}, {} in use", format_bytes(settings.swap_bytes), format_bytes(settings.swap_used_bytes));
    if (settings.swap_used_bytes * 20 < settings.swap_bytes) return good("swap", found);
    return advise(
        "swap", found,
        "memory is short already: give --ram less, or weights may be swapped out, which is slower than streaming them");
}

Finding huge_page_finding(const hardware::HostSettings& settings) {
    if (settings.huge_pages == "always" || settings.huge_pages == "madvise")
        return good("huge pages", settings.huge_pages);
    return advise("huge pages", settings.huge_pages.empty() ? "unknown" : settings.huge_pages,
                  "reads cost twice the processor time: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
}

Finding memlock_finding(const hardware::HostSettings& settings) {
    constexpr uint64_t kOrdinaryBytes = 8 * kMiB;
    if (!settings.memlock_bytes) return good("locked memory", "no limit");
    const std::string found = format_bytes(*settings.memlock_bytes);
    if (*settings.memlock_bytes >= kOrdinaryBytes) return good("locked memory", found);
    return advise("locked memory", found, "old kernels count io_uring's queues against it: ulimit -l 8192");
}

Finding io_uring_finding(const Status& io_uring) {
    if (io_uring) return good("io_uring", "usable");
    return advise("io_uring", io_uring.error().message,
                  "reads go through threads instead, at a little more processor time; containers "
                  "often forbid it (sysctl kernel.io_uring_disabled, seccomp profile)");
}

Finding filesystem_finding(const hardware::DiskInfo& disk) {
    const std::string found = std::format("{} on {} at {}", disk.filesystem.empty() ? "unknown" : disk.filesystem,
                                          disk.source.empty() ? "?" : disk.source, disk.mount_point);
    if (disk.in_memory) return advise("file system", found, "models here take memory twice; put them on a disk");
    if (disk.network)
        return advise("file system", found, "every token waits for the network; put models on a local disk");
    return good("file system", found);
}

Finding direct_finding(const Result<storage::DiskProbe>& probe) {
    if (!probe) return advise("direct reads", "could not be tried", probe.error().message);
    if (!probe->direct)
        return advise("direct reads", "refused",
                      "reads go through the page cache, which takes memory and processor time; ext4, xfs and "
                      "btrfs allow direct reads");
    if (!probe->bypasses_page_cache() && probe->made_file)
        return advise("direct reads", "true bytes, but out of memory",
                      "this file system answers direct reads from the page cache");
    return good("direct reads", std::format("true bytes, in units of {}", format_bytes(probe->alignment_bytes)));
}

Finding disk_finding(const hardware::DiskInfo& disk) {
    if (disk.block_device.empty()) return good("disk", "no block device");
    const std::string kind = !disk.rotational ? "unknown kind" : *disk.rotational ? "rotating" : "solid state";
    const std::string found = std::format("{}, {}, {} free", disk.block_device, kind, format_bytes(disk.free_bytes));
    if (disk.rotational.value_or(false))
        return advise("disk", found, "a rotating disk reads experts at a few MB/s; move models to a solid-state one");
    return good("disk", found);
}

Finding encryption_finding(const hardware::DiskInfo& disk) {
    if (!disk.encrypted) return good("encryption", "none that the kernel shows");
    return advise("encryption", "dm-crypt",
                  "decrypting takes processor time from the model; keep models on an unencrypted partition if "
                  "they are no secret");
}

Finding processor_finding(const std::vector<placement::ComputeDevice>& devices) {
    const auto found = std::ranges::find(devices, "cpu", &placement::ComputeDevice::kind);
    if (found != devices.end()) return good("processor", found->description);
    return {"processor", "libggml has no backend for it", Verdict::kStops, "install libggml0"};
}

Finding gpu_finding(const HostFacts& facts) {
    std::string names;
    for (const placement::ComputeDevice& device : facts.devices)
        if (device.kind != "cpu")
            names += std::format("{}{} ({})", names.empty() ? "" : ", ", device.name, device.description);
    if (!names.empty()) return good("graphics", names + "; weights stay on the processor's side so far");
    if (!facts.settings.gpu_driver) return good("graphics", "no device");
    return advise("graphics", "a driver is there, but libggml lists no device",
                  "install a backend, libggml0-backend-vulkan for example");
}

std::string_view verdict_name(Verdict verdict) {
    return verdict == Verdict::kGood ? "good" : verdict == Verdict::kAdvice ? "could be better" : "stops hypura";
}

}  // namespace

std::vector<Finding> judge(const HostFacts& facts) {
    return {processor_finding(facts.devices), memory_finding(facts.memory),      cgroup_finding(facts.memory),
            swap_finding(facts.settings),     huge_page_finding(facts.settings), memlock_finding(facts.settings),
            io_uring_finding(facts.io_uring), filesystem_finding(facts.disk),    direct_finding(facts.probe),
            disk_finding(facts.disk),         encryption_finding(facts.disk),    gpu_finding(facts)};
}

bool stops(const std::vector<Finding>& findings) {
    return std::ranges::any_of(findings, [](const Finding& finding) { return finding.verdict == Verdict::kStops; });
}

std::string findings_text(const std::vector<Finding>& findings) {
    std::string text;
    for (const Finding& finding : findings) {
        const std::string_view mark = finding.verdict == Verdict::kGood     ? "ok"
                                      : finding.verdict == Verdict::kAdvice ? "!"
                                                                            : "STOP";
        text += std::format("{:<5}{:<15}{}\n", mark, finding.subject, finding.found);
        if (!finding.advice.empty()) text += std::format("{:<20}{}\n", "", finding.advice);
    }
    return text;
}

std::string findings_json(const std::vector<Finding>& findings) {
    using Json = nlohmann::ordered_json;
    Json json = Json::array();
    for (const Finding& finding : findings)
        json.push_back({{"subject", finding.subject},
                        {"found", finding.found},
                        {"verdict", verdict_name(finding.verdict)},
                        {"advice", finding.advice}});
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace hypura::cli
