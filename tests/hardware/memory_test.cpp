#include "hardware/memory.h"

#include "base/bytes.h"
#include "hardware/data_limit.h"
#include "recorded_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <vector>

namespace hypura::hardware {
namespace {

constexpr const char* kUnifiedMount = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* kLegacyMount = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

// 16 GiB, of which 12 are available.
void add_machine(RecordedTree& tree) {
    tree.add("/proc/meminfo",
             "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:   12582912 kB\n"
             "Buffers:          524288 kB\nCached:          2097152 kB\nSwapCached:            0 kB\n");
}

MemoryLimits limits_of(const RecordedTree& tree) {
    auto limits = memory_limits(tree.root());
    EXPECT_TRUE(limits);
    return limits.value_or(MemoryLimits{});
}

TEST(MemoryLimits, AMachineWithoutGroupsIsItsOwnLimit) {
    RecordedTree tree;
    add_machine(tree);
    const MemoryLimits limits = limits_of(tree);
    EXPECT_EQ(limits.physical_bytes, 16 * kGiB);
    EXPECT_EQ(limits.available_bytes, 12 * kGiB);
    EXPECT_EQ(limits.cgroup_limit_bytes, 0u);
    EXPECT_EQ(limits.usable_bytes(), 12 * kGiB);
    EXPECT_EQ(limits.limited_by, "machine");
}

TEST(MemoryLimits, OldKernelsCountFreeMemoryAndCache) {
    RecordedTree tree;
    tree.add("/proc/meminfo", "MemTotal: 8192 kB\nMemFree: 1000 kB\nBuffers: 20 kB\nCached: 300 kB\n");
    EXPECT_EQ(limits_of(tree).available_bytes, 1320 * kKiB);
}

TEST(MemoryLimits, AMachineThatSaysNothingIsAnError) {
    RecordedTree tree;
    const auto limits = memory_limits(tree.root());
    ASSERT_FALSE(limits);
    EXPECT_EQ(limits.error().code, ErrorCode::kUnsupportedHost);
}

TEST(MemoryLimits, UnifiedGroupsLeaveOutPageCache) {
    RecordedTree tree;
    add_machine(tree);
    tree.add("/proc/self/mountinfo", kUnifiedMount).add("/proc/self/cgroup", "0::/user.slice/job\n");
    tree.add("/sys/fs/cgroup/user.slice/job/memory.max", "4294967296\n");
    tree.add("/sys/fs/cgroup/user.slice/job/memory.high", "max\n");
    tree.add("/sys/fs/cgroup/user.slice/job/memory.current", "3221225472\n");
    tree.add("/sys/fs/cgroup/user.slice/job/memory.stat",
             "anon 1\nfile 2\ninactive_file 1073741824\nactive_file 1073741824\nunevictable 0\n");
    const MemoryLimits limits = limits_of(tree);
    EXPECT_EQ(limits.cgroup_limit_bytes, 4 * kGiB);
    EXPECT_EQ(limits.cgroup_used_bytes, 1 * kGiB);
    EXPECT_EQ(limits.usable_bytes(), 3 * kGiB);
    EXPECT_EQ(limits.limited_by, tree.root() + "/sys/fs/cgroup/user.slice/job/memory.max");
}

TEST(MemoryLimits, AFullParentBindsMoreThanASmallerEmptyChild) {
    RecordedTree tree;
    add_machine(tree);
    tree.add("/proc/self/mountinfo", kUnifiedMount).add("/proc/self/cgroup", "0::/pod/job\n");
    tree.add("/sys/fs/cgroup/pod/job/memory.max", "4294967296\n");
    tree.add("/sys/fs/cgroup/pod/job/memory.current", "0\n");
    tree.add("/sys/fs/cgroup/pod/memory.high", "8589934592\n");
    tree.add("/sys/fs/cgroup/pod/memory.current", "7516192768\n");
    const MemoryLimits limits = limits_of(tree);
    EXPECT_EQ(limits.usable_bytes(), 1 * kGiB);
    EXPECT_EQ(limits.limited_by, tree.root() + "/sys/fs/cgroup/pod/memory.high");
}

TEST(MemoryLimits, AGroupLargerThanTheMachineLeavesTheMachineAsTheLimit) {
    RecordedTree tree;
    add_machine(tree);
    tree.add("/proc/self/mountinfo", kUnifiedMount).add("/proc/self/cgroup", "0::/job\n");
    tree.add("/sys/fs/cgroup/job/memory.max", "68719476736\n");
    EXPECT_EQ(limits_of(tree).usable_bytes(), 12 * kGiB);
    EXPECT_EQ(limits_of(tree).limited_by, "machine");
}

TEST(MemoryLimits, TheMarginOfAGroupIsSmallerThanAMachines) {
    MemoryLimits machine{.physical_bytes = 16 * kGiB, .available_bytes = kGiB};
    EXPECT_EQ(machine.budget_bytes(), 512 * kMiB);
    machine.available_bytes = 10 * kGiB;
    EXPECT_EQ(machine.budget_bytes(), 9 * kGiB);
    MemoryLimits group{.physical_bytes = 16 * kGiB, .available_bytes = 12 * kGiB, .cgroup_limit_bytes = kGiB};
    EXPECT_EQ(group.budget_bytes(), 960 * kMiB);
    group.cgroup_limit_bytes = 128 * kMiB;
    EXPECT_EQ(group.budget_bytes(), 96 * kMiB);
    group.cgroup_limit_bytes = 5 * kGiB;
    EXPECT_EQ(group.budget_bytes(), 4960 * kMiB);
}

TEST(MemoryLimits, LegacyGroupsOnAHybridHost) {
    RecordedTree tree;
    add_machine(tree);
    tree.add("/proc/self/mountinfo",
             std::string("31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n") + kLegacyMount +
                 "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
    tree.add("/proc/self/cgroup", "9:name=systemd:/\n4:memory:/process_api/d9f5b8\n1:cpu:/\n0::/\n");
    tree.add("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    tree.add("/sys/fs/cgroup/memory/process_api/memory.limit_in_bytes", "9223372036854771712\n");
    tree.add("/sys/fs/cgroup/memory/process_api/d9f5b8/memory.limit_in_bytes", "2147483648\n");
    tree.add("/sys/fs/cgroup/memory/process_api/d9f5b8/memory.usage_in_bytes", "2147483648\n");
    tree.add("/sys/fs/cgroup/memory/process_api/d9f5b8/memory.stat",
             "inactive_file 7\nactive_file 7\ntotal_inactive_file 536870912\ntotal_active_file 536870912\n");
    tree.add("/sys/fs/cgroup/unified/cgroup.procs", "1\n");
    const MemoryLimits limits = limits_of(tree);
    EXPECT_EQ(limits.cgroup_limit_bytes, 2 * kGiB);
    EXPECT_EQ(limits.usable_bytes(), 1 * kGiB);
}

TEST(MemoryLimits, AContainerMountThatShowsOnlyOurPartOfTheTree) {
    RecordedTree tree;
    add_machine(tree);
    tree.add("/proc/self/mountinfo", "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
    tree.add("/proc/self/cgroup", "4:memory:/docker/ab/inner\n");
    tree.add("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "1073741824\n");
    EXPECT_EQ(limits_of(tree).cgroup_limit_bytes, 1 * kGiB);
}

TEST(MemoryLimits, AGroupThatTheMountHidesFallsBackToTheMountsRoot) {
    RecordedTree tree;
    add_machine(tree);
    tree.add("/proc/self/mountinfo", kLegacyMount).add("/proc/self/cgroup", "4:memory:/docker/ab\n");
    tree.add("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
    EXPECT_EQ(limits_of(tree).cgroup_limit_bytes, 1 * kGiB);
}

TEST(MemoryLimits, MountPointsWithBlanksAreUnescaped) {
    RecordedTree tree;
    add_machine(tree);
    tree.add("/proc/self/mountinfo", "31 23 0:28 / /sys/my\\040groups rw - cgroup2 cgroup2 rw\n");
    tree.add("/proc/self/cgroup", "0::/\n").add("/sys/my groups/memory.max", "1073741824\n");
    EXPECT_EQ(limits_of(tree).cgroup_limit_bytes, 1 * kGiB);
}

TEST(MemoryLimits, GarbageInTheFilesMeansNoLimit) {
    RecordedTree tree;
    add_machine(tree);
    tree.add("/proc/self/mountinfo", std::string("what - is this\n- \n") + kUnifiedMount);
    tree.add("/proc/self/cgroup", ":::\nx\n0::/../../elsewhere\n").add("/sys/fs/cgroup/memory.max", "many\n");
    EXPECT_EQ(limits_of(tree).usable_bytes(), 12 * kGiB);
}

TEST(MemoryLimits, OfThisMachineAreSane) {
    const auto limits = memory_limits();
    ASSERT_TRUE(limits);
    EXPECT_GT(limits->physical_bytes, 64 * kMiB);
    EXPECT_GT(limits->usable_bytes(), 0u);
    EXPECT_LE(limits->usable_bytes(), limits->physical_bytes);
}

TEST(ProcessMemory, GrowsWithWhatWeTouch) {
    const ProcessMemory before = process_memory().value();
    std::vector<char> touched(64 * kMiB);
    std::memset(touched.data(), 1, touched.size());
    const ProcessMemory after = process_memory().value();
    EXPECT_NE(touched[kMiB], 0);
    EXPECT_GE(after.resident_bytes, before.resident_bytes + 60 * kMiB);
    EXPECT_GE(after.anonymous_bytes, before.anonymous_bytes + 60 * kMiB);
    EXPECT_GE(after.peak_resident_bytes, after.resident_bytes);
    EXPECT_GE(after.data_bytes, before.data_bytes + 60 * kMiB);
    EXPECT_GE(after.minor_faults, before.minor_faults);
}

TEST(ProcessMemory, AnUnreadableProcIsAnErrorAndNotNothing) {
    const RecordedTree tree;
    const auto memory = process_memory(tree.root());
    ASSERT_FALSE(memory);
    EXPECT_EQ(memory.error().code, ErrorCode::kUnsupportedHost);
    EXPECT_THAT(memory.error().message, testing::HasSubstr("/proc/self/statm"));
}

TEST(DataLimit, RefusesWhatIsBeyondWhileItLives) {
    const uint64_t held = process_memory().value().data_bytes;
    const auto can_have = [](size_t bytes) {
        void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return memory != MAP_FAILED && ::munmap(memory, bytes) == 0;
    };
    {
        const DataLimit limit(held + 100 * kMiB);
        EXPECT_TRUE(can_have(10 * kMiB));
        EXPECT_FALSE(can_have(200 * kMiB));
    }
    EXPECT_TRUE(can_have(200 * kMiB));
}

TEST(ProcessMemory, ReadsTheFieldsOfStatm) {
    RecordedTree tree;
    tree.add("/proc/self/statm", "1000 300 100 5 0 700 0\n");
    const ProcessMemory memory = process_memory(tree.root()).value();
    const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    EXPECT_EQ(memory.resident_bytes, 300 * page_bytes);
    EXPECT_EQ(memory.anonymous_bytes, 200 * page_bytes);
    EXPECT_EQ(memory.data_bytes, 700 * page_bytes);
}

}  // namespace
}  // namespace hypura::hardware
