#include "placement/bank_plan.h"

#include "base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

namespace hypura::placement {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::Ge;
using testing::Le;

std::vector<BankRequest> small_groups(size_t count, uint32_t least_slots) {
    return std::vector<BankRequest>(
        count, BankRequest{.expert_bytes = 100, .matrix_bytes = 40, .experts = 8, .least_slots = least_slots});
}

// 24 layers of 64 experts of 5.4 MB, four a token: 8.3 GB.
constexpr uint64_t kExpertBytes = 5'400'000;
constexpr uint32_t kLayers = 24, kExperts = 64;
constexpr uint64_t kAllBytes = kExpertBytes * kLayers * kExperts;

std::vector<BankRequest> lab_groups() {
    return std::vector<BankRequest>(
        kLayers,
        BankRequest{
            .expert_bytes = kExpertBytes, .matrix_bytes = kExpertBytes / 3, .experts = kExperts, .least_slots = 4});
}

uint64_t bytes_of(const std::vector<uint32_t>& slots) {
    return kExpertBytes * std::accumulate(slots.begin(), slots.end(), uint64_t{0});
}

size_t whole_groups(const std::vector<uint32_t>& slots) {
    return static_cast<size_t>(std::ranges::count(slots, kExperts));
}

std::vector<uint32_t> even_slots(uint64_t room_bytes) {
    return std::vector<uint32_t>(kLayers, static_cast<uint32_t>(room_bytes / kExpertBytes / kLayers));
}

double seconds(const std::vector<uint32_t>& slots, const BankRoom& room, const BankRates& rates) {
    const BankForecast forecast = forecast_banks(lab_groups(), slots, room, rates);
    return forecast.device_s + forecast.read_s;
}

TEST(BankPlan, WholePartsAreStagedWhereThatIsLittleOfTheRoom) {
    const uint64_t part_bytes = kExpertBytes / 3 * kExperts;
    const BankStaging half = plan_staging(lab_groups(), kAllBytes / 2);
    EXPECT_EQ(half.part_bytes, part_bytes);
    EXPECT_EQ(half.total_bytes(), 2 * part_bytes);
    const BankStaging little = plan_staging(lab_groups(), 12 * part_bytes - 1);
    EXPECT_EQ(little.part_bytes, 0u);
    EXPECT_EQ(little.total_bytes(), (12 * part_bytes - 1) / 16);
    EXPECT_EQ(plan_staging(lab_groups(), kAllBytes).total_bytes(), 0u);
}

TEST(BankPlan, StagingIsTakenOffTheRoomWhereExpertsComeAndGo) {
    const StagedBanks half = plan_staged_banks(lab_groups(), {.device_bytes = kAllBytes / 2}, {});
    EXPECT_LE(bytes_of(half.slots) + half.staging.total_bytes(), kAllBytes / 2);
    EXPECT_GT(half.staging.total_bytes(), 0u);
    const StagedBanks nothing = plan_staged_banks(small_groups(3, 4), {.device_bytes = 100}, {});
    EXPECT_THAT(nothing.slots, ElementsAre(0, 0, 0));
    EXPECT_EQ(nothing.staging.total_bytes(), 0u);
}

// Measured on an H100 with 16 threads: 1.23 ms for each layer without slots.
TEST(BankPlan, WhatTheProcessorMultipliesTakesItsTime) {
    const std::vector<uint32_t> none(kLayers, 0);
    const BankRates rates{.upload_bytes_per_second = 45e9, .host_bytes_per_second = 70e9};
    const BankForecast forecast = forecast_banks(lab_groups(), none, {}, rates);
    EXPECT_EQ(forecast.uploaded, 0);
    EXPECT_NEAR(forecast.device_s / kLayers, 1.23e-3, 0.05e-3);
    EXPECT_GT(forecast_banks(lab_groups(), none, {}, {.host_bytes_per_second = 7e9}).device_s, 2 * forecast.device_s);
}

// They are gone again before RAM could do without them.
TEST(BankPlan, SlotsForOneTokensExpertsSaveNoReads) {
    const BankRoom room{.ram_bytes = kAllBytes / 4};
    const auto read = [&](uint32_t slots) {
        return forecast_banks(lab_groups(), std::vector<uint32_t>(kLayers, slots), room, {}).read;
    };
    EXPECT_EQ(read(4), read(0));
    EXPECT_LT(read(8), read(4));
}

TEST(BankPlan, APassOfManyTokensBringsAllThatHasNoSlot) {
    const std::vector<BankRequest> groups = lab_groups();
    const StagedBanks half{std::vector<uint32_t>(kLayers, kExperts / 2), {.part_bytes = 1}};
    const StagedBanks all{std::vector<uint32_t>(kLayers, kExperts), {}};
    const BankRates rates{.upload_bytes_per_second = 45e9, .read_bytes_per_second = 2e9};
    const double uploads_s = static_cast<double>(kAllBytes) / 2 / 45e9, cuts_s = 4 * kLayers * 250e-6;
    EXPECT_NEAR(pass_seconds(groups, half, kAllBytes, rates, 0), uploads_s + cuts_s, 1e-6);
    EXPECT_NEAR(pass_seconds(groups, half, kAllBytes, rates, 0.05), 0.05 + uploads_s + cuts_s, 1e-6);
    EXPECT_NEAR(pass_seconds(groups, half, kAllBytes / 4, rates, 0), static_cast<double>(kAllBytes) / 4 / 2e9, 1e-6);
    EXPECT_EQ(pass_seconds(groups, all, 0, rates, 0), 0);
    EXPECT_EQ(pass_seconds(groups, all, 0, rates, 0.05), 0.05);
}

// Half of what the queue would move, in whole parts alone.
TEST(BankPlan, UploadsOfAPassRunBesideItsArithmetic) {
    const std::vector<BankRequest> groups = lab_groups();
    const BankRates rates{.upload_bytes_per_second = 45e9, .uploads_ahead = true};
    StagedBanks half{std::vector<uint32_t>(kLayers, kExperts / 2), {.part_bytes = 1}};
    const double uploads_s = static_cast<double>(kAllBytes) / 2 / 45e9, cuts_s = 4 * kLayers * 250e-6;
    const double arithmetic_s = uploads_s / 2;
    EXPECT_NEAR(pass_seconds(groups, half, kAllBytes, rates, arithmetic_s), 1.25 * uploads_s + cuts_s, 1e-6);
    EXPECT_NEAR(pass_seconds(groups, half, kAllBytes, rates, 2 * uploads_s), 2 * uploads_s + cuts_s, 1e-6);
    half.staging = {.piece_bytes = 1};
    EXPECT_NEAR(pass_seconds(groups, half, kAllBytes, rates, arithmetic_s), 1.5 * uploads_s + cuts_s, 1e-6);
}

TEST(BankPlan, AllExpertsWhereTheyFit) {
    const auto slots = plan_banks(small_groups(3, 2), {.device_bytes = 2400}, {});
    EXPECT_THAT(slots, ElementsAre(8, 8, 8));
    const BankForecast forecast = forecast_banks(small_groups(3, 2), slots, {.device_bytes = 2400}, {});
    EXPECT_EQ(forecast.cuts, 0u);
    EXPECT_EQ(forecast.device_s + forecast.read_s, 0);
}

TEST(BankPlan, SharesEvenlyWhereUploadsCostMoreThanCuts) {
    const BankRates slow_bus{.upload_bytes_per_second = 2e9};
    for (uint64_t room_bytes = kAllBytes / 6; room_bytes < kAllBytes / 2; room_bytes += kAllBytes / 50) {
        const auto slots = plan_banks(lab_groups(), {.device_bytes = room_bytes}, slow_bus);
        const auto even = static_cast<uint32_t>(room_bytes / kExpertBytes / kLayers);
        EXPECT_THAT(slots, Each(AllOf(Ge(even), Le(even + 1)))) << room_bytes;
    }
}

TEST(BankPlan, BuysWholeLayersWhereCutsCostMore) {
    const BankRates fast_bus{.upload_bytes_per_second = 45e9};
    const auto half = plan_banks(lab_groups(), {.device_bytes = kAllBytes / 2}, fast_bus);
    EXPECT_GE(whole_groups(half), 8u);
    EXPECT_THAT(half, Each(Ge(4u)));
    const BankRates usual{};
    EXPECT_GE(whole_groups(plan_banks(lab_groups(), {.device_bytes = kAllBytes / 4 * 3}, usual)), 12u);
}

// A read costs more than a cut and an upload together.
TEST(BankPlan, SharesEvenlyWhereTheRestIsOnTheDisk) {
    const BankRoom room{.device_bytes = kAllBytes / 4, .ram_bytes = kAllBytes / 4};
    const auto slots = plan_banks(lab_groups(), room, {.upload_bytes_per_second = 45e9});
    EXPECT_THAT(slots, Each(AllOf(Ge(16u), Le(17u))));
}

TEST(BankPlan, IsNeverSlowerThanAnEvenShareAndStaysWithinTheRoom) {
    for (const double upload : {4e9, 16e9, 45e9})
        for (const double ram_share : {0.1, 0.5, 1.0})
            for (const double skew : {0.0, 0.5, 1.0})
                for (uint64_t slots = kLayers * 5; slots < kLayers * kExperts; slots += 77) {
                    const BankRoom room{.device_bytes = slots * kExpertBytes,
                                        .ram_bytes = static_cast<uint64_t>(ram_share * kAllBytes)};
                    const BankRates rates{.upload_bytes_per_second = upload, .routing = {.skew = skew}};
                    const auto planned = plan_banks(lab_groups(), room, rates);
                    EXPECT_LE(bytes_of(planned), room.device_bytes);
                    EXPECT_THAT(planned, Each(Ge(4u)));
                    EXPECT_LE(seconds(planned, room, rates), seconds(even_slots(room.device_bytes), room, rates));
                }
}

TEST(BankPlan, ForecastsUploadsAndReads) {
    const BankRoom room{.device_bytes = kAllBytes / 2, .ram_bytes = kAllBytes / 4};
    const BankRates rates{.upload_bytes_per_second = 10e9, .read_bytes_per_second = 1e9, .routing = {0, 0}};
    const BankForecast forecast = forecast_banks(lab_groups(), even_slots(kAllBytes / 2), room, rates);
    EXPECT_EQ(forecast.cuts, kLayers);
    EXPECT_NEAR(forecast.uploaded, 0.5, 0.01);  // routing without skew
    EXPECT_NEAR(forecast.read, 0.25, 0.01);
    EXPECT_NEAR(forecast.read_s, 0.25 * 4 * kLayers * kExpertBytes / 1e9, 0.002);
    EXPECT_NEAR(forecast.device_s, 0.5 * 4 * kLayers * kExpertBytes / 10e9 + kLayers * 250e-6, 0.002);
}

// Half the experts of a layer: 10.8 MB. In the time of a cut 0.7 * 10 GB/s move 1.75 MB of them.
TEST(BankPlan, WhatComesAheadIsNotWaitedFor) {
    const BankRoom room{.device_bytes = kAllBytes / 2};
    const BankRates rates{.upload_bytes_per_second = 10e9, .routing = {0, 0}};
    BankRates ahead = rates;
    ahead.uploads_ahead = true;
    const auto slots = even_slots(kAllBytes / 2);
    EXPECT_NEAR(seconds(slots, room, rates) - seconds(slots, room, ahead), kLayers * 1.75e6 / 10e9, 1e-4);
    // On a bus that is fast enough, what nobody foresees is left.
    ahead.upload_bytes_per_second = 100e9;
    EXPECT_NEAR(seconds(slots, room, ahead), kLayers * (250e-6 + 0.25 * 10.8e6 / 100e9), 1e-4);
}

TEST(BankPlan, SpreadsWholeLayersEvenly) {
    const auto slots = plan_banks(lab_groups(), {.device_bytes = kAllBytes / 2}, {.upload_bytes_per_second = 45e9});
    const auto first_half = std::span(slots).first(kLayers / 2);
    const size_t whole = whole_groups(slots);
    EXPECT_NEAR(static_cast<double>(std::ranges::count(first_half, kExperts)), static_cast<double>(whole) / 2, 1);
    EXPECT_LT(slots.back(), kExperts);
}

TEST(BankPlan, WhereNotEveryGroupCanHoldOneTokensExpertsSomeHoldAllOrNoneDoes) {
    EXPECT_THAT(plan_banks(small_groups(3, 4), {.device_bytes = 1300}, {}), ElementsAre(5, 4, 4));
    EXPECT_THAT(plan_banks(small_groups(3, 4), {.device_bytes = 900}, {}), ElementsAre(8, 0, 0));
    EXPECT_THAT(plan_banks(small_groups(3, 4), {.device_bytes = 700}, {}), ElementsAre(0, 0, 0));
    EXPECT_THAT(plan_banks(small_groups(3, 4), {.device_bytes = 100}, {}), ElementsAre(0, 0, 0));
}

TEST(BankPlan, NoTensorOutgrowsWhatADeviceReaches) {
    EXPECT_THAT(plan_banks(small_groups(2, 2), {.device_bytes = 1600, .most_bank_bytes = 200}, {}), ElementsAre(5, 5));
}

TEST(BankPlan, WholeOrNothingWhereExpertsCannotComeAndGo) {
    EXPECT_THAT(plan_whole_banks(small_groups(3, 2), {.device_bytes = 1700}), ElementsAre(8, 8, 0));
    EXPECT_THAT(plan_whole_banks(small_groups(2, 2), {.device_bytes = 1600, .most_bank_bytes = 200}),
                ElementsAre(0, 0));
}

TEST(BankPlan, GoesByTheCardAndTheDiskThatWereMeasured) {
    Machine machine = assumed_machine(8, 64 * kGiB);
    EXPECT_EQ(bank_rates(machine, {}, {}).upload_bytes_per_second, BankRates{}.upload_bytes_per_second);
    ComputeDevice card = machine.devices.front();
    card.kind = "gpu";
    card.upload_bytes_per_second = 45e9;
    card.writes_directly = true;
    machine.devices.push_back(card);
    const BankRates rates = bank_rates(machine, assumed_disk(3e9, 80), {});
    EXPECT_EQ(rates.upload_bytes_per_second, 45e9);
    EXPECT_TRUE(rates.uploads_ahead);
    EXPECT_NEAR(rates.read_bytes_per_second, 3e9, 1e9);
}

}  // namespace
}  // namespace hypura::placement
