#include "hardware/cores.h"

#include "hardware/memory.h"
#include "recorded_tree.h"

#include <gtest/gtest.h>

#include <array>
#include <format>
#include <thread>

namespace hypura::hardware {
namespace {

constexpr std::array<uint32_t, 4> kFourCpus = {0, 1, 2, 3};

TEST(Cores, SiblingThreadsCountOnce) {
    RecordedTree tree;
    for (uint32_t cpu : kFourCpus)
        tree.add(std::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings", cpu), cpu < 2 ? "3\n" : "c\n");
    EXPECT_EQ(physical_cores(tree.root(), kFourCpus), 2u);
}

TEST(Cores, WithoutTopologyEveryProcessorCounts) {
    RecordedTree tree;
    EXPECT_EQ(physical_cores(tree.root(), kFourCpus), 4u);
}

TEST(Cores, UnifiedQuotaOfAnAncestorBinds) {
    RecordedTree tree;
    tree.add("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    tree.add("/proc/self/cgroup", "0::/pod/job\n").add("/sys/fs/cgroup/pod/job/cpu.max", "max 100000\n");
    tree.add("/sys/fs/cgroup/pod/cpu.max", "350000 100000\n");
    EXPECT_EQ(quota_cores(tree.root()), 3u);
}

TEST(Cores, LegacyQuotaIsFoundAmongJoinedControllers) {
    RecordedTree tree;
    tree.add("/proc/self/mountinfo", "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n");
    tree.add("/proc/self/cgroup", "2:cpu,cpuacct:/job\n");
    tree.add("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    tree.add("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "50000\n");
    tree.add("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    EXPECT_EQ(quota_cores(tree.root()), 1u);
}

TEST(Cores, NoQuotaIsNoLimit) {
    RecordedTree tree;
    EXPECT_EQ(quota_cores(tree.root()), UINT32_MAX);
}

TEST(Cores, OfThisMachineAreSane) {
    EXPECT_GE(usable_cores(), 1u);
    EXPECT_LE(usable_cores(), std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace hypura::hardware
