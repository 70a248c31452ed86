// The arithmetic and the formats behind bench, trace and simulate.
#include "base/bytes.h"
#include "cli/bench_metrics.h"
#include "cli/bench_peer.h"
#include "cli/bench_report.h"
#include "cli/child_process.h"
#include "cli/trace_file.h"
#include "hardware/memory_cage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace hypura::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsSupersetOf;

// ---- samples and metrics -------------------------------------------------------------------------------------------

TEST(BenchCase, GoesToTheChildAndBack) {
    for (const BenchCase& bench_case : {BenchCase{.tokens = 512}, BenchCase{true, 128, 32, 100}}) {
        const auto parsed = parse_bench_case(bench_case.text());
        ASSERT_TRUE(parsed);
        EXPECT_EQ(parsed->text(), bench_case.text());
        EXPECT_EQ(parsed->decode, bench_case.decode);
    }
    for (const char* text : {"", "prompt", "prompt:", "prompt:x", "prompt:1:2", "decode:1", "decode:1:2:x", "other:1"})
        EXPECT_FALSE(parse_bench_case(text)) << text;
}

TEST(BenchSample, MedianAndSpread) {
    EXPECT_EQ(median({}), 0);
    EXPECT_EQ(median({3, 1, 2}), 2);
    EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
    EXPECT_EQ(spread({2}), 0);
    EXPECT_EQ(spread({9, 10, 11}), 0.2);
}

// 10 tokens of 100 ms each, 40 ms of it waiting; 50 MiB a token at a ceiling of 1 GiB/s.
OurRun streaming_run() {
    OurRun run;
    Stretch& stretch = run.report.measured;
    stretch.tokens = 10;
    stretch.wall_us = 1'000'000;
    stretch.wait_us = 400'000;
    stretch.busy_us = 800'000;
    stretch.read_bytes = 500 * kMiB;
    stretch.demands = 1000;
    stretch.hits = 700;
    stretch.joined = 50;
    stretch.prefetches = 200;
    stretch.prefetch_wasted = 20;
    stretch.major_faults = 5;
    stretch.system_us = 30'000;
    run.ceiling_bytes_per_second = kGiB;
    return run;
}

TEST(BenchMetrics, FollowTheirFormulas) {
    const Metrics metrics = metrics_of(streaming_run(), {80'000, 1'000, "measured", 95'000});
    const double io_us = 50.0 / 1024 * 1e6;  // U/B
    EXPECT_DOUBLE_EQ(metric(metrics, "tokens_per_second"), 10);
    EXPECT_DOUBLE_EQ(metric(metrics, "io_us_per_token"), io_us);
    EXPECT_DOUBLE_EQ(metric(metrics, "roofline_fraction"), 80'000.0 / 100'000);
    EXPECT_DOUBLE_EQ(metric(metrics, "roofline_fraction_beside_reads"), 95'000.0 / 100'000);
    EXPECT_DOUBLE_EQ(metric(metrics, "bandwidth_fraction"), 500.0 / 1024 / 0.8);
    EXPECT_DOUBLE_EQ(metric(metrics, "duty_cycle"), 0.8);
    EXPECT_DOUBLE_EQ(metric(metrics, "overlap_fraction"), (80'000 + io_us - 100'000) / io_us);
    // 180 prefetched pages were met, 250 demands had to be read by themselves; 750 were found, 180 of them thanks to
    // it.
    EXPECT_DOUBLE_EQ(metric(metrics, "hit_rate"), 0.57);
    EXPECT_DOUBLE_EQ(metric(metrics, "prefetch_precision"), 0.9);
    EXPECT_DOUBLE_EQ(metric(metrics, "prefetch_coverage"), 180.0 / 430);
    EXPECT_DOUBLE_EQ(metric(metrics, "prefetch_waste"), 20.0 / 430);
    // 30 ms of system time, of which 10 would have been needed anyway.
    EXPECT_DOUBLE_EQ(metric(metrics, "io_cpu_seconds_per_gib"), 0.02 / (500.0 / 1024));
    EXPECT_DOUBLE_EQ(metric(metrics, "major_faults_per_token"), 0.5);
    EXPECT_TRUE(std::isnan(metric(metrics, "cold_first_token_us")));  // a decode case
}

TEST(BenchMetrics, AColdStartIsMeasuredAgainstTheCeiling) {
    OurRun run = streaming_run();
    run.report.cold_us = 3'000'000;
    run.report.cold_bytes = 2 * kGiB;
    const Metrics metrics = metrics_of(run, {.how = "unknown"});
    EXPECT_DOUBLE_EQ(metric(metrics, "cold_first_token_us"), 3e6);
    EXPECT_DOUBLE_EQ(metric(metrics, "cold_io_us"), 2e6);
}

TEST(BenchMetrics, WhatIsNotKnownIsNotANumber) {
    OurRun run = streaming_run();
    run.ceiling_bytes_per_second = 0;
    run.report.measured.prefetches = run.report.measured.prefetch_wasted = 0;
    const Metrics metrics = metrics_of(run, {.how = "unknown"});
    for (const char* name :
         {"roofline_fraction", "roofline_fraction_beside_reads", "overlap_fraction", "bandwidth_fraction",
          "compute_us_per_token", "prefetch_coverage", "prefetch_precision", "prefetch_waste"})
        EXPECT_TRUE(std::isnan(metric(metrics, name))) << name;
}

TEST(BenchMetrics, MediansLeaveOutFailedRuns) {
    CaseResult result{.bench_case = {true, 1, 1, 10}, .runs = {streaming_run(), streaming_run()}};
    result.runs[1].failure = "killed";
    result.floor = estimated_floor(result.runs);
    EXPECT_DOUBLE_EQ(result.floor.us_per_token, 60'000);
    EXPECT_THAT(result.floor.how, HasSubstr("estimated"));
    EXPECT_THAT(our_rates(result), ElementsAre(10));
    EXPECT_DOUBLE_EQ(metric(median_metrics(result), "tokens_per_second"), 10);
}

// 10 tokens of 40 ms each, and of 55 beside 50 MiB of reads a token.
ChildReport floor_report() {
    ChildReport report;
    report.measured.tokens = report.beside_reads.tokens = 10;
    report.measured.wall_us = 400'000;
    report.measured.system_us = 10'000;
    report.beside_reads.wall_us = 550'000;
    report.side_read_bytes = 500 * kMiB;
    return report;
}

TEST(BenchMetrics, AFloorBesideReadsCountsIfTheyHappened) {
    ChildReport report = floor_report();
    const ComputeFloor floor = measured_floor(report, 50 * kMiB);
    EXPECT_DOUBLE_EQ(floor.us_per_token, 40'000);
    EXPECT_DOUBLE_EQ(floor.system_us_per_token, 1'000);
    EXPECT_DOUBLE_EQ(floor.beside_reads_us_per_token, 55'000);
    report.side_read_bytes = 440 * kMiB;
    EXPECT_EQ(measured_floor(report, 50 * kMiB).beside_reads_us_per_token, 0);
    EXPECT_EQ(measured_floor(floor_report(), 0).beside_reads_us_per_token, 0);
    EXPECT_EQ(median_read_bytes_per_token({streaming_run(), streaming_run()}), 50 * kMiB);
}

// ---- llama-bench ---------------------------------------------------------------------------------------------------

TEST(BenchPeer, AsksForTheSameWork) {
    const Peer& mmap = all_peers()[0];
    EXPECT_THAT(peer_arguments(mmap, {"m.gguf", {.tokens = 512}, 2, ""}),
                ElementsAre("-m", "m.gguf", "-t", "2", "-r", "1", "-o", "jsonl", "--progress", "-lm", "mmap",
                            "--repack", "0", "-p", "512", "-n", "0"));
    const auto decode = peer_arguments(all_peers()[1], {"m.gguf", {true, 128, 32, 100}, 2, ""});
    EXPECT_THAT(std::vector<std::string>(decode.end() - 6, decode.end()),
                ElementsAre("-p", "0", "-n", "32,100", "-d", "128"));
}

// Beside a graphics card --device none compared the processor's streaming with stock llama.cpp on the card.
TEST(BenchPeer, MayUseTheSameDevices) {
    const auto arguments = [](const std::string& devices) {
        return peer_arguments(all_peers()[1], {"m.gguf", {.tokens = 512}, 2, devices});
    };
    EXPECT_THAT(arguments("none"), IsSupersetOf({"-dev", "none"}));
    EXPECT_THAT(arguments("Vulkan0,Vulkan1"), IsSupersetOf({"-dev", "Vulkan0/Vulkan1"}));
    EXPECT_THAT(arguments("auto"), IsSupersetOf({"-dev", "auto"}));
}

// ---- reports -------------------------------------------------------------------------------------------------------

BenchResult some_result() {
    BenchResult result{.model = "m.gguf", .model_bytes = kGiB, .limit_bytes = kGiB / 2, .limit_kind = "cgroup v1"};
    CaseResult& entry = result.cases.emplace_back();
    entry.bench_case = {true, 1, 1, 10};
    entry.runs = {streaming_run()};
    entry.floor = {80'000, 0, "measured", 95'000};
    entry.peers["mmap"] = {PeerSample{.tokens_per_second = 2}};
    entry.peers["default"] = {PeerSample{.failure = "killed by the memory limit"}};
    return result;
}

TEST(BenchReport, SaysRatiosAndFailures) {
    const std::string text = bench_text(some_result());
    EXPECT_THAT(text, HasSubstr("hypura is 5.00x"));
    EXPECT_THAT(text, HasSubstr("killed by the memory limit"));
    EXPECT_THAT(text, HasSubstr("roofline fraction 0.800"));
    EXPECT_THAT(text, HasSubstr("95.00 ms; roofline fraction with that 0.950"));
}

TEST(BenchReport, MarkdownComesFromTheJson) {
    const std::string json = bench_json(some_result());
    const auto markdown = bench_markdown({json, json});
    ASSERT_TRUE(markdown) << markdown.error().message;
    EXPECT_THAT(*markdown, HasSubstr("| m.gguf | 512 MiB | decode | 10.00"));
    EXPECT_THAT(*markdown, HasSubstr("2.00 (5.00×) | failed | 0.800 | 0.950 |"));
    EXPECT_EQ(std::ranges::count(*markdown, '\n'), 4);
    EXPECT_FALSE(bench_markdown({"{}"}));
    EXPECT_FALSE(bench_markdown({"not JSON"}));
}

TEST(Chart, IsAScriptForGnuplot) {
    const auto script = gnuplot_script(bench_chart(some_result()), "out.svg");
    ASSERT_TRUE(script);
    EXPECT_THAT(*script, HasSubstr("set output \"out.svg\""));
    EXPECT_THAT(*script, HasSubstr("\"decode\" 10\n"));
    EXPECT_THAT(*script, HasSubstr("\"decode\" 2\n"));
    EXPECT_FALSE(gnuplot_script({}, "out.gif"));
}

// ---- children ------------------------------------------------------------------------------------------------------

TEST(ChildProcess, HandsInputInAndOutputsOut) {
    std::vector<std::string> lines;
    ChildSpec spec{.arguments = {"sh", "-c", "cat; echo oops >&2; echo last; exit 3"}, .input = "one\ntwo\n"};
    spec.on_line = [&](pid_t, ChildStream stream, std::string_view line) {
        if (stream == ChildStream::kOut) lines.emplace_back(line);
    };
    const auto result = run_child(spec);
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->exit_code, 3);
    EXPECT_EQ(result->out, "one\ntwo\nlast\n");
    EXPECT_EQ(result->err, "oops\n");
    EXPECT_THAT(lines, ElementsAre("one", "two", "last"));
}

TEST(ChildProcess, TellsSignalsAndMissingPrograms) {
    EXPECT_EQ(run_child({.arguments = {"sh", "-c", "kill -9 $$"}})->signal, 9);
    EXPECT_EQ(run_child({.arguments = {"no-such-program-at-all"}}).error().code, ErrorCode::kNotFound);
    EXPECT_EQ(run_child({.arguments = {"true"}, .cage_entrance = "/no/such/group"}).error().code,
              ErrorCode::kUnsupportedHost);
}

TEST(ChildProcess, AMemoryLimitHolds) {
    const auto cage = hardware::MemoryCage::create(64 * kMiB);
    if (!cage) GTEST_SKIP() << cage.error().message;
    const auto result =
        run_child({.arguments = {"python3", "-c", "b'x' * 200_000_000"}, .cage_entrance = cage->entrance()});
    ASSERT_TRUE(result) << result.error().message;
    EXPECT_EQ(result->signal, 9);
    EXPECT_EQ(cage->kills(), 1u);
}

// ---- traces --------------------------------------------------------------------------------------------------------

TEST(TraceFile, ComesBackAsItWas) {
    residency::DemandTrace trace;
    trace.model = "a \"model\".gguf";
    trace.class_slots = {3, 1};
    trace.pages = {{0, 0, 0, 100}, {0, 1, 0, 100}, {1, -1, 1, 7}};
    trace.events = {{residency::TraceStep::kPass, 5},
                    {residency::TraceStep::kPrefetch, 2},
                    {residency::TraceStep::kAcquire, 2, 2},
                    {residency::TraceStep::kWithdraw, 2},
                    {residency::TraceStep::kAcquire, 1}};
    trace.demands = {1, 0, 2};
    trace.standings = {0, residency::kHighestStanding};
    trace.found = {residency::Found::kMiss, residency::Found::kHit, residency::Found::kPrefetched};
    trace.counters = {.demands = 3, .hits = 2, .evictions = 1, .prefetches = 1};
    const auto parsed = parse_trace(trace_text(trace), "t");
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(*parsed, trace);
}

TEST(TraceFile, WhatIsWrongIsNamedByItsLine) {
    const std::string head = R"({"hypura_trace":3,"model":"m","class_slots":[2],"pages":[[0,0,0,9]]})"
                             "\n";
    const std::pair<std::string, std::string> cases[] = {
        {"", "t:1: it is empty"},
        {"{}", "t:1: it is not a hypura trace"},
        {R"({"hypura_trace":2})", "t:1: this version"},
        {R"({"hypura_trace":3,"model":"m","class_slots":[2],"pages":[[0,0,1,9]]})", "t:1: a page belongs to no class"},
        {head + "junk", "t:2: "},
        {head + R"({"d":[1],"f":"h"})", "t:2: there is no such page"},
        {head + R"({"d":[0],"f":"hh"})", "t:2: pages and findings differ"},
        {head + R"({"w":1})", "t:2: there is no such page"},
        {head + R"({"d":[0],"f":"x"})", "t:2: a finding is none of"},
        {head + R"({"d":[0],"f":"h","s":"00"})", "t:2: there are standings of more experts"},
        {head + R"({"d":[0],"f":"h","s":" "})", "t:2: a standing is not between"},
        {head + R"({"d":[],"f":"","s":"0"})", "t:2: standings of no layer"},
        {head + R"({"other":0})", "t:2: "},
    };
    for (const auto& [text, message] : cases) {
        const auto parsed = parse_trace(text, "t");
        ASSERT_FALSE(parsed) << text;
        EXPECT_THAT(parsed.error().message, HasSubstr(message));
    }
}

}  // namespace
}  // namespace hypura::cli
