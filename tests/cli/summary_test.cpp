#include "cli/summary.h"

#include "base/bytes.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace hypura::cli {
namespace {

engine::Report streaming_report() {
    engine::Report report;
    report.mode = engine::Mode::kStream;
    report.reason = "the model is larger than the budget";
    report.model_bytes = 18 * kMiB;
    report.resident_bytes = 2 * kMiB;
    report.streamed_bytes = 16 * kMiB;
    report.slot_bytes = 6 * kMiB;
    report.reader = "io_uring";
    report.direct_io = true;
    report.demands = 200;
    report.hits = 150;
    report.prefetches = 9;
    report.prefetch_wasted = 2;
    report.evictions = 20;
    report.evictions_by_layer = {12, 8};
    report.reads.bytes = 4 * kMiB;
    report.reads.busy_us = 2'000'000;
    report.scanned_bytes = 5 * kMiB;
    report.drafts = "lookup";
    report.drafted_tokens = 40;
    report.accepted_tokens = 30;
    return report;
}

engine::GenerateResult answer_of(size_t tokens, int64_t decode_us) {
    engine::GenerateResult answer;
    answer.tokens.resize(tokens);
    answer.prompt_tokens = 10;
    answer.prompt_us = 500'000;
    answer.decode_us = decode_us;
    answer.first_token_us = 600'000;
    return answer;
}

TEST(RunTotals, RatesCountPassesNotTokens) {
    RunTotals totals;
    totals.add(answer_of(11, 1'000'000));
    EXPECT_DOUBLE_EQ(totals.decode_rate(), 10);
    EXPECT_DOUBLE_EQ(totals.prompt_rate(), 20);
    totals.add(answer_of(31, 2'000'000));
    EXPECT_DOUBLE_EQ(totals.decode_rate(), 40.0 / 3);
    EXPECT_EQ(totals.generated_tokens, 42U);
}

TEST(RunTotals, AnEmptyAnswerDividesNothingByZero) {
    RunTotals totals;
    totals.add(answer_of(0, 0));
    EXPECT_EQ(totals.decode_rate(), 0);
    EXPECT_EQ(RunTotals{}.prompt_rate(), 0);
}

TEST(Rates, OfAReport) {
    EXPECT_DOUBLE_EQ(hit_rate(streaming_report()), 0.75);
    EXPECT_DOUBLE_EQ(read_rate(streaming_report()), 2.0 * kMiB);
    EXPECT_DOUBLE_EQ(hit_rate(engine::Report{}), 1);
    EXPECT_DOUBLE_EQ(read_rate(engine::Report{}), 0);
}

TEST(SummaryText, SaysWhereTheWeightsWereAndWhatWasRead) {
    const std::string text = summary_text(streaming_report(), {});
    EXPECT_TRUE(text.contains("stream: the model is larger than the budget")) << text;
    EXPECT_TRUE(text.contains("16.0 MiB in the file through 6.00 MiB of slots")) << text;
    EXPECT_TRUE(text.contains("4.00 MiB by io_uring at 2.00 MiB/s")) << text;
    EXPECT_TRUE(text.contains("75.0% of 200 demands")) << text;
    EXPECT_FALSE(text.contains("read errors")) << text;
    EXPECT_TRUE(text.ends_with('\n'));
}

TEST(SummaryText, AResidentModelHasNoReads) {
    engine::Report report;
    report.mode = engine::Mode::kResident;
    const std::string text = summary_text(report, {});
    EXPECT_FALSE(text.contains("reads")) << text;
    EXPECT_FALSE(text.contains("cache")) << text;
}

TEST(SummaryText, MappedWeightsAreNotSaidToBeInMemory) {
    engine::Report report;
    report.mode = engine::Mode::kMmap;
    report.model_bytes = report.resident_bytes = 18 * kMiB;
    const std::string text = summary_text(report, {});
    EXPECT_TRUE(text.contains("18.0 MiB mapped")) << text;
    EXPECT_FALSE(text.contains("in memory")) << text;
}

TEST(SummaryText, SaysWhenReadsWereRetriedOrBuffered) {
    engine::Report report = streaming_report();
    report.reads.retries = 3;
    report.direct_io = false;
    const std::string text = summary_text(report, {});
    EXPECT_TRUE(text.contains("3 retries, 0 failures")) << text;
    EXPECT_TRUE(text.contains("io_uring (buffered)")) << text;
}

TEST(SummaryJson, HoldsTheNumbers) {
    RunTotals totals;
    totals.add(answer_of(11, 1'000'000));
    const auto json = nlohmann::json::parse(summary_json(streaming_report(), totals));
    EXPECT_EQ(json["mode"], "stream");
    EXPECT_EQ(json["memory"]["slot_bytes"], 6 * kMiB);
    EXPECT_EQ(json["streaming"]["evictions_by_layer"], (std::vector<int>{12, 8}));
    EXPECT_EQ(json["streaming"]["hit_rate"], 0.75);
    EXPECT_EQ(json["streaming"]["prefetches"], 9);
    EXPECT_EQ(json["streaming"]["prefetch_wasted"], 2);
    EXPECT_EQ(json["memory"]["scanned_bytes"], 5 * kMiB);
    EXPECT_EQ(json["drafts"]["from"], "lookup");
    EXPECT_EQ(json["drafts"]["accepted_tokens"], 30);
    EXPECT_EQ(json["speed"]["decode_tokens_per_second"], 10);
    EXPECT_EQ(json["speed"]["stop"], "end_of_text");
}

TEST(SummaryJson, SurvivesTextThatIsNotUtf8) {
    engine::Report report;
    report.notes = {"blk.\xFF: resident"};
    EXPECT_TRUE(nlohmann::json::accept(summary_json(report, {})));
}

}  // namespace
}  // namespace hypura::cli
