#include "cli/doctor.h"

#include "base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace hypura::cli {
namespace {

using testing::HasSubstr;

HostFacts healthy() {
    HostFacts facts;
    facts.settings = {.memlock_bytes = 8 * kMiB, .huge_pages = "madvise"};
    facts.memory = {.physical_bytes = 16 * kGiB, .available_bytes = 12 * kGiB, .limited_by = "machine"};
    facts.disk = {.mount_point = "/",
                  .filesystem = "ext4",
                  .source = "/dev/nvme0n1p2",
                  .block_device = "nvme0n1",
                  .rotational = false};
    facts.probe = storage::DiskProbe{
        .file_bytes = kMiB, .direct = true, .alignment_bytes = 512, .cached_before_bytes = 0, .cached_after_bytes = 0};
    facts.devices = {{.name = "CPU", .description = "a processor", .kind = "cpu"}};
    return facts;
}

Finding finding(const HostFacts& facts, std::string_view subject) {
    const auto findings = judge(facts);
    const auto found = std::ranges::find(findings, subject, &Finding::subject);
    return found == findings.end() ? Finding{} : *found;
}

TEST(Doctor, FindsNothingWrongWithAHealthyHost) {
    for (const Finding& line : judge(healthy())) {
        EXPECT_EQ(line.verdict, Verdict::kGood) << line.subject << ": " << line.advice;
        EXPECT_FALSE(line.found.empty()) << line.subject;
    }
}

TEST(Doctor, AdvisesOnWhatSlowsStreaming) {
    HostFacts facts = healthy();
    facts.settings = {.memlock_bytes = 64 * kKiB,
                      .huge_pages = "never",
                      .swap_bytes = kGiB,
                      .swap_used_bytes = kGiB / 2,
                      .gpu_driver = true};
    facts.disk.rotational = true;
    facts.disk.encrypted = true;
    facts.probe->direct = false;
    facts.io_uring = fail(ErrorCode::kUnsupportedHost, "forbidden");
    facts.memory.cgroup_limit_bytes = 4 * kGiB;
    facts.memory.limited_by = "/sys/fs/cgroup/memory.max";
    for (const char* subject : {"locked memory", "huge pages", "swap", "disk", "encryption", "direct reads", "io_uring",
                                "control group", "graphics"}) {
        EXPECT_EQ(finding(facts, subject).verdict, Verdict::kAdvice) << subject;
        EXPECT_FALSE(finding(facts, subject).advice.empty()) << subject;
    }
    EXPECT_FALSE(stops(judge(facts)));
}

TEST(Doctor, KnowsFileSystemsThatAreNoDisk) {
    HostFacts facts = healthy();
    facts.disk.filesystem = "tmpfs";
    facts.disk.in_memory = true;
    EXPECT_THAT(finding(facts, "file system").advice, HasSubstr("memory twice"));
    facts.disk.in_memory = false;
    facts.disk.network = true;
    EXPECT_THAT(finding(facts, "file system").advice, HasSubstr("network"));
}

TEST(Doctor, StopsOnlyForWhatStopsHypura) {
    HostFacts no_processor = healthy();
    no_processor.devices.clear();
    EXPECT_TRUE(stops(judge(no_processor)));
    HostFacts no_memory = healthy();
    no_memory.memory.available_bytes = 100 * kMiB;
    EXPECT_TRUE(stops(judge(no_memory)));
}

TEST(Doctor, ListsDevicesThatLibggmlHas) {
    HostFacts facts = healthy();
    facts.devices.push_back({.name = "Vulkan0", .description = "a card", .kind = "gpu"});
    EXPECT_THAT(finding(facts, "graphics").found, HasSubstr("Vulkan0 (a card)"));
}

TEST(Doctor, TextMarksEveryLine) {
    HostFacts facts = healthy();
    facts.disk.encrypted = true;
    const std::string text = findings_text(judge(facts));
    EXPECT_THAT(text, HasSubstr("!    encryption     dm-crypt\n"));
    EXPECT_THAT(text, HasSubstr("ok   io_uring       usable\n"));
}

}  // namespace
}  // namespace hypura::cli
