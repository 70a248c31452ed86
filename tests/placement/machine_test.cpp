#include "placement/machine.h"

#include "base/bytes.h"
#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::placement {
namespace {

using testing::HasSubstr;

Machine sample() {
    Machine machine = assumed_machine(4, 16 * kGiB);
    machine.fingerprint = "some machine";
    machine.measured_s = 1234;
    machine.features = {"avx2", "fma"};
    machine.devices.front().trip_us = 300;
    machine.disks.front().proven = true;
    return machine;
}

TEST(Machine, AnAssumedOneHasNoMoreMemoryBandwidthForManyCores) {
    const auto rate = [](uint32_t cores) {
        return weight_rate(assumed_machine(cores, 16 * kGiB).devices.front(), "q4_K", {}, 1);
    };
    EXPECT_EQ(rate(2), 7e9);
    EXPECT_EQ(rate(8), 28e9);
    EXPECT_EQ(rate(64), 40e9);
}

TEST(Machine, IsSavedAndReadBack) {
    const test::TempDir dir;
    const std::string file = dir.file("deep/profile.json");
    ASSERT_TRUE(save_machine(sample(), file));
    const auto read = load_machine(file);
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(machine_json(*read), machine_json(sample()));
    EXPECT_EQ(read->devices.front().trip_us, 300);
    EXPECT_EQ(read->devices.front().rates.size(), sample().devices.front().rates.size());
    EXPECT_EQ(read->disks.front().points.size(), sample().disks.front().points.size());
}

TEST(Machine, RefusesWhatIsNoProfile) {
    const test::TempDir dir;
    EXPECT_EQ(load_machine(dir.file("none")).error().code, ErrorCode::kNotFound);
    EXPECT_THAT(parse_machine("{").error().message, HasSubstr("cannot be read"));
    EXPECT_THAT(parse_machine("{\"version\": 99}").error().message, HasSubstr("another version"));
    EXPECT_THAT(parse_machine("[]").error().message, HasSubstr("cannot be read"));
}

TEST(WeightRate, InterpolatesTimeBetweenBatches) {
    ComputeDevice device;
    device.rates = {{"q4_K", {}, 1, 8e9, 0}, {"q4_K", {}, 512, 8e9 / 512, 0}};  // arithmetic-bound throughout
    EXPECT_NEAR(weight_rate(device, "q4_K", {}, 1), 8e9, 1);
    EXPECT_NEAR(weight_rate(device, "q4_K", {}, 64), 8e9 / 64, 1);
    EXPECT_NEAR(weight_rate(device, "q4_K", {}, 1024), 8e9 / 1024, 1);
}

TEST(WeightRate, TakesTheNearestFormatAndPlainForRepacked) {
    ComputeDevice device;
    device.rates = {{"f16", {}, 1, 20e9, 0}, {"q4_K", {}, 1, 8e9, 0}};
    EXPECT_EQ(weight_rate(device, "q5_K", {}, 1), 8e9);
    EXPECT_EQ(weight_rate(device, "bf16", {}, 1), 20e9);
    EXPECT_EQ(weight_rate(device, "q4_K", {.repacked = true, .routed = true}, 1), 8e9);
    EXPECT_EQ(weight_rate({}, "q4_K", {}, 1), 0);
}

TEST(AssumedDisk, IsSlowForSmallReadsAndNeverBeyondItsRate) {
    const DiskProfile disk = assumed_disk(2e9, 100);
    EXPECT_NEAR(storage::bandwidth_at(disk.points, 4096, 1), 4096 / (100e-6 + 4096 / 2e9), 1);
    EXPECT_NEAR(storage::bandwidth_at(disk.points, 4 << 20, 32), 2e9, 1);
}

}  // namespace
}  // namespace hypura::placement
