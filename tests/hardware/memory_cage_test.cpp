#include "hardware/memory_cage.h"

#include "base/bytes.h"
#include "hardware/text_file.h"
#include "recorded_tree.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <format>

namespace hypura::hardware {
namespace {

std::string own_folder() { return std::format("hypura-{}", ::getpid()); }

TEST(MemoryCage, SetsTheLimitOfALegacyGroup) {
    RecordedTree tree;
    tree.add("/proc/self/mountinfo", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    tree.add("/proc/self/cgroup", "4:memory:/job\n").add("/sys/fs/cgroup/memory/job/cgroup.procs", "");
    const auto cage = MemoryCage::create(3 * kGiB, tree.root());
    ASSERT_TRUE(cage) << cage.error().message;
    EXPECT_EQ(cage->kind(), "cgroup v1");
    const std::string folder = tree.root() + "/sys/fs/cgroup/memory/job/" + own_folder();
    EXPECT_EQ(cage->entrance(), folder + "/cgroup.procs");
    EXPECT_EQ(read_text(folder + "/memory.limit_in_bytes"), std::to_string(3 * kGiB));
    EXPECT_EQ(cage->kills(), 0u);
    tree.add("/sys/fs/cgroup/memory/job/" + own_folder() + "/memory.oom_control",
             "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
    EXPECT_EQ(cage->kills(), 2u);
}

TEST(MemoryCage, SetsTheLimitOfAUnifiedGroup) {
    RecordedTree tree;
    tree.add("/proc/self/mountinfo", "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    tree.add("/proc/self/cgroup", "0::/\n").add("/sys/fs/cgroup/cgroup.procs", "");
    const auto cage = MemoryCage::create(kGiB, tree.root());
    ASSERT_TRUE(cage) << cage.error().message;
    EXPECT_EQ(cage->kind(), "cgroup v2");
    const std::string folder = "/sys/fs/cgroup/" + own_folder();
    EXPECT_EQ(read_text(tree.root() + folder + "/memory.max"), std::to_string(kGiB));
    EXPECT_EQ(read_text(tree.root() + folder + "/memory.swap.max"), "0");
    tree.add(folder + "/memory.events", "low 0\noom 1\noom_kill 1\n");
    EXPECT_EQ(cage->kills(), 1u);
}

TEST(MemoryCage, SaysWhyThereIsNone) {
    RecordedTree tree;
    tree.add("/proc/self/mountinfo", "").add("/proc/self/cgroup", "");
    const auto cage = MemoryCage::create(kGiB, tree.root());
    ASSERT_FALSE(cage);
    EXPECT_EQ(cage.error().code, ErrorCode::kUnsupportedHost);
}

}  // namespace
}  // namespace hypura::hardware
