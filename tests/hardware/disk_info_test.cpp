#include "hardware/disk_info.h"

#include "hardware/host_settings.h"
#include "hardware/processor.h"
#include "recorded_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>

namespace hypura::hardware {
namespace {

using testing::ElementsAre;

// An encrypted volume on a partition of a solid-state disk, as Linux shows it.
void add_encrypted_disk(RecordedTree& tree) {
    tree.add("/proc/self/mountinfo",
             "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/root rw\n"
             "23 22 0:21 / /tm\\040p rw - tmpfs tmpfs rw\n");
    tree.add("/sys/devices/nvme0n1/queue/rotational", "0\n").add("/sys/devices/nvme0n1/nvme0n1p2/partition", "2\n");
    tree.add("/sys/devices/dm-0/dm/uuid", "CRYPT-LUKS2-0123-root\n").add("/sys/devices/dm-0/queue/rotational", "0\n");
    std::filesystem::create_directories(tree.root() + "/sys/dev/block");
    std::filesystem::create_directories(tree.root() + "/sys/devices/dm-0/slaves");
    std::filesystem::create_directory_symlink(tree.root() + "/sys/devices/dm-0", tree.root() + "/sys/dev/block/254:0");
    std::filesystem::create_directory_symlink(tree.root() + "/sys/devices/nvme0n1/nvme0n1p2",
                                              tree.root() + "/sys/devices/dm-0/slaves/nvme0n1p2");
}

TEST(DiskInfo, FollowsEncryptionDownToTheDisk) {
    RecordedTree tree;
    add_encrypted_disk(tree);
    const auto info = disk_info("/", tree.root());
    ASSERT_TRUE(info) << info.error().message;
    EXPECT_EQ(info->filesystem, "ext4");
    EXPECT_EQ(info->source, "/dev/mapper/root");
    EXPECT_EQ(info->block_device, "nvme0n1");
    EXPECT_EQ(info->rotational, false);
    EXPECT_TRUE(info->encrypted);
    EXPECT_GT(info->size_bytes, 0u);
}

TEST(DiskInfo, KnowsMemoryAndNetworkFileSystems) {
    RecordedTree tree;
    tree.add("/proc/self/mountinfo", "22 1 0:5 / / rw - tmpfs tmpfs rw\n");
    EXPECT_TRUE(disk_info("/", tree.root())->in_memory);
    RecordedTree network;
    network.add("/proc/self/mountinfo", "22 1 0:5 / / rw - nfs4 server:/models rw\n");
    EXPECT_TRUE(disk_info("/", network.root())->network);
    EXPECT_TRUE(disk_info("/", network.root())->block_device.empty());
}

TEST(DiskInfo, TakesTheMountNearestToThePath) {
    RecordedTree tree;
    const std::string folder = std::filesystem::canonical(std::filesystem::temp_directory_path()).string();
    tree.add("/proc/self/mountinfo",
             "22 1 0:5 / / rw - ext4 /dev/a rw\n23 22 0:6 / " + folder + " rw - xfs /dev/b rw\n");
    EXPECT_EQ(disk_info(folder, tree.root())->filesystem, "xfs");
    EXPECT_EQ(disk_info("/", tree.root())->filesystem, "ext4");
    EXPECT_EQ(disk_info("/no/such/path", tree.root()).error().code, ErrorCode::kNotFound);
}

TEST(DiskInfo, WithoutAKernelsWordSaysNothing) {
    const RecordedTree tree;
    const auto info = disk_info("/", tree.root());
    ASSERT_TRUE(info);
    EXPECT_TRUE(info->filesystem.empty());
    EXPECT_FALSE(info->rotational.has_value());
}

TEST(Processor, ReadsNameAndFeatures) {
    RecordedTree tree;
    tree.add("/proc/cpuinfo",
             "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 sse fma avx512f\n\nprocessor\t: 1\n");
    const Processor found = processor(tree.root());
    EXPECT_EQ(found.name, "Some CPU");
    EXPECT_THAT(found.features, ElementsAre("avx2", "fma", "avx512f"));
    EXPECT_GE(found.usable_cores, 1u);
}

TEST(Processor, MeasuresMemory) {
    const auto rate = measure_memory_bandwidth(1);
    ASSERT_TRUE(rate) << rate.error().message;
    EXPECT_GT(*rate, 1e8);
}

TEST(HostSettings, AreReadFromTheSystemsFiles) {
    RecordedTree tree;
    tree.add("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    tree.add("/proc/meminfo", "MemTotal: 1000 kB\nSwapTotal: 2048 kB\nSwapFree: 1024 kB\n");
    tree.add("/proc/driver/nvidia/version", "NVRM\n");
    const HostSettings settings = host_settings(tree.root());
    EXPECT_EQ(settings.huge_pages, "madvise");
    EXPECT_EQ(settings.swap_bytes, 2048u * 1024);
    EXPECT_EQ(settings.swap_used_bytes, 1024u * 1024);
    EXPECT_TRUE(settings.gpu_driver);
    EXPECT_FALSE(host_settings(RecordedTree().root()).gpu_driver);
}

}  // namespace
}  // namespace hypura::hardware
