#include "hardware/memory.h"

#include "base/bytes.h"
#include "hardware/cgroup.h"
#include "hardware/text_file.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

namespace hypura::hardware {
namespace {

// v1 says "no limit" as the largest multiple of the page size below 2^63.
constexpr uint64_t kNoLimitFrom = uint64_t{1} << 62;

// A limit of one control group and what counts against it.
struct GroupLimit {
    uint64_t limit_bytes = 0;
    uint64_t used_bytes = 0;
    std::string file;

    uint64_t left_bytes() const { return limit_bytes - std::min(limit_bytes, used_bytes); }
};

// "max" is no number, so it reads as absent.
std::optional<uint64_t> limit_in(const std::string& path) {
    const auto text = read_text(path);
    const auto limit = text ? leading_number(*text) : std::nullopt;
    return limit && *limit < kNoLimitFrom ? limit : std::nullopt;
}

// Groups are charged for page cache too, which the kernel drops before it refuses us memory. Whole-file reads of a
// model would otherwise look as if they had used the budget up.
uint64_t used_without_cache(const std::string& folder, const char* usage_file, const std::string& prefix) {
    const uint64_t charged = leading_number(read_text(folder + usage_file).value_or("")).value_or(0);
    const std::string stat = read_text(folder + "/memory.stat").value_or("");
    const uint64_t cache = keyed_number(stat, prefix + "inactive_file").value_or(0) +
                           keyed_number(stat, prefix + "active_file").value_or(0);
    return charged - std::min(charged, cache);
}

// memory.high counts as a limit: beyond it the kernel throttles the group until it is of no use.
std::optional<GroupLimit> unified_limit(const std::string& folder) {
    std::optional<GroupLimit> tightest;
    for (const char* file : {"/memory.max", "/memory.high"}) {
        const auto limit = limit_in(folder + file);
        if (limit && (!tightest || *limit < tightest->limit_bytes)) tightest = GroupLimit{*limit, 0, folder + file};
    }
    if (tightest) tightest->used_bytes = used_without_cache(folder, "/memory.current", "");
    return tightest;
}

// The total_ counters of v1 include child groups, as the limit does.
std::optional<GroupLimit> legacy_limit(const std::string& folder) {
    const std::string file = folder + "/memory.limit_in_bytes";
    const auto limit = limit_in(file);
    if (!limit) return std::nullopt;
    return GroupLimit{*limit, used_without_cache(folder, "/memory.usage_in_bytes", "total_"), file};
}

// Of all hierarchies and all levels, the limit that leaves least: a parent with a larger limit may be fuller.
std::optional<GroupLimit> tightest_group_limit(const std::string& root) {
    std::optional<GroupLimit> tightest;
    for (const CgroupChain& chain : cgroup_chains(root, "memory")) {
        for (const std::string& folder : chain.folders) {
            auto limit = chain.unified ? unified_limit(folder) : legacy_limit(folder);
            if (limit && (!tightest || limit->left_bytes() < tightest->left_bytes())) tightest = std::move(limit);
        }
    }
    return tightest;
}

// Kernels before 3.14 lack MemAvailable; free memory and page cache come close.
uint64_t available_kib(std::string_view meminfo) {
    if (const auto available = keyed_number(meminfo, "MemAvailable")) return *available;
    return keyed_number(meminfo, "MemFree").value_or(0) + keyed_number(meminfo, "Buffers").value_or(0) +
           keyed_number(meminfo, "Cached").value_or(0);
}

Result<MemoryLimits> machine_limits(const std::string& root) {
    const std::string path = root + "/proc/meminfo";
    const auto meminfo = read_text(path);
    const auto total_kib = meminfo ? keyed_number(*meminfo, "MemTotal") : std::nullopt;
    if (!total_kib) return fail(ErrorCode::kUnsupportedHost, "{}: does not say how much memory there is", path);
    MemoryLimits limits;
    limits.physical_bytes = *total_kib * kKiB;
    limits.available_bytes = std::min(available_kib(*meminfo) * kKiB, limits.physical_bytes);
    limits.limited_by = "machine";
    return limits;
}

// Field `index` of /proc/self/stat, counted from 1 as in proc(5). The command name in field 2 may hold blanks and
// parentheses, so counting starts behind its last one.
uint64_t stat_field(std::string_view stat, size_t index) {
    const size_t name_end = stat.rfind(") ");
    if (name_end == std::string_view::npos) return 0;
    const auto fields = split(stat.substr(name_end + 2), ' ');
    constexpr size_t kFirstIndex = 3;
    return index - kFirstIndex < fields.size() ? leading_number(fields[index - kFirstIndex]).value_or(0) : 0;
}

uint64_t peak_resident_by_rusage() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<uint64_t>(usage.ru_maxrss) * kKiB;
}

// Pages: size, resident, shared, text, lib, data.
Status read_statm(const std::string& root, ProcessMemory& memory) {
    const std::string path = root + "/proc/self/statm";
    const std::string text = read_text(path).value_or("");
    const auto fields = split(text, ' ');
    if (fields.size() < 6)
        return fail(ErrorCode::kUnsupportedHost, "{}: does not say how much memory this process holds; mount /proc",
                    path);
    const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    const uint64_t resident_pages = leading_number(fields[1]).value_or(0);
    const uint64_t shared_pages = leading_number(fields[2]).value_or(0);
    memory.resident_bytes = resident_pages * page_bytes;
    memory.anonymous_bytes = (resident_pages - std::min(resident_pages, shared_pages)) * page_bytes;
    memory.data_bytes = leading_number(fields[5]).value_or(0) * page_bytes;
    return {};
}

// More exact than statm where the kernel fills these lines in; sandboxes often do not.
void read_status(const std::string& root, ProcessMemory& memory) {
    const std::string text = read_text(root + "/proc/self/status").value_or("");
    if (const auto anonymous_kib = keyed_number(text, "RssAnon")) memory.anonymous_bytes = *anonymous_kib * kKiB;
    const auto peak_kib = keyed_number(text, "VmHWM");
    const uint64_t peak_bytes = peak_kib ? *peak_kib * kKiB : peak_resident_by_rusage();
    memory.peak_resident_bytes = std::max(peak_bytes, memory.resident_bytes);
}

}  // namespace

uint64_t MemoryLimits::usable_bytes() const {
    if (cgroup_limit_bytes == 0) return available_bytes;
    return std::min(available_bytes, cgroup_limit_bytes - std::min(cgroup_limit_bytes, cgroup_used_bytes));
}

uint64_t MemoryLimits::budget_bytes() const {
    const uint64_t usable = usable_bytes();
    const bool in_group = usable < available_bytes;
    const uint64_t share_bytes = usable / (in_group ? 32 : 10);
    const uint64_t least_bytes = (in_group ? 64 : 512) * kMiB;
    const uint64_t most_bytes = usable / (in_group ? 4 : 2);
    return usable - std::min(std::max(share_bytes, least_bytes), most_bytes);
}

Result<MemoryLimits> memory_limits(const std::string& root) {
    HYPURA_ASSIGN(MemoryLimits limits, machine_limits(root));
    const auto group = tightest_group_limit(root);
    if (!group) return limits;
    limits.cgroup_limit_bytes = group->limit_bytes;
    limits.cgroup_used_bytes = group->used_bytes;
    if (group->left_bytes() < limits.available_bytes) limits.limited_by = group->file;
    return limits;
}

Result<ProcessMemory> process_memory(const std::string& root) {
    ProcessMemory memory;
    HYPURA_TRY(read_statm(root, memory));
    read_status(root, memory);
    const std::string stat = read_text(root + "/proc/self/stat").value_or("");
    memory.minor_faults = stat_field(stat, 10);
    memory.major_faults = stat_field(stat, 12);
    return memory;
}

}  // namespace hypura::hardware
