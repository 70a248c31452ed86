// The prefix cache: what is reused, evicted, saved and restored, by its counters.
#include "engine/batch_support.h"
#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace hypura::engine {
namespace {

using namespace test;

std::vector<Token> joined(std::vector<Token> a, const std::vector<Token>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

Outcome run_one(BatchEngine& batch, GenerateRequest request) {
    const SequenceId id = batch.add(std::move(request)).value();
    return run_all(batch).at(id);
}

TEST(PrefixCache, AConversationGoesOnWhereItStopped) {
    const auto opened = open_batch(demo_options(2));
    const auto prompt = chat_prompt(*opened.engine, "What is a cache?");
    const Outcome first = run_one(*opened.batch, greedy_request(prompt, 12));
    EXPECT_EQ(first.finished.reused_tokens, 0u);

    const auto next = joined(joined(prompt, first.tokens), numbered(400, 7));
    const Outcome second = run_one(*opened.batch, greedy_request(next, 12));
    // The last token of the answer was drawn and not evaluated.
    EXPECT_EQ(second.finished.reused_tokens, prompt.size() + first.tokens.size() - 1);
    EXPECT_EQ(second.progress.front().done_tokens, second.finished.reused_tokens);
    EXPECT_EQ(opened.batch->counters().prompt_tokens, prompt.size() + 1 + 7);
    EXPECT_EQ(opened.batch->counters().kept_prefixes, 1u);  // the same timeline, longer now

    const auto fresh = open_batch(demo_options(2));
    EXPECT_EQ(run_one(*fresh.batch, greedy_request(next, 12)).tokens, second.tokens);
}

TEST(PrefixCache, ABranchKeepsTheOldTimelineAndSharesItsCells) {
    const auto opened = open_batch(demo_options(2));
    const auto system = numbered(300, 50);
    run_one(*opened.batch, greedy_request(joined(system, numbered(400, 10)), 1));
    const Outcome other = run_one(*opened.batch, greedy_request(joined(system, numbered(500, 10)), 1));
    EXPECT_EQ(other.finished.reused_tokens, 50u);
    EXPECT_EQ(opened.batch->counters().kept_prefixes, 2u);
    EXPECT_EQ(opened.batch->counters().used_tokens, 70u);
    EXPECT_EQ(opened.batch->cached_tokens(joined(system, numbered(400, 11))), 60u);
    opened.batch->drop_prefixes();
    EXPECT_EQ(opened.batch->counters().used_tokens, 0u);
}

TEST(PrefixCache, ARunningSequenceLendsItsBeginning) {
    const auto opened = open_batch(demo_options(2));
    const auto prompt = numbered(300, 40);
    ASSERT_TRUE(opened.batch->add(greedy_request(prompt, 30)));
    (void)opened.batch->step();
    const SequenceId second = opened.batch->add(greedy_request(prompt, 30)).value();
    const Outcomes outcomes = run_all(*opened.batch);
    EXPECT_EQ(outcomes.at(second).finished.reused_tokens, 39u);
}

TEST(PrefixCache, PromptsThatArriveTogetherAreReadOnce) {
    const auto alone = open_batch(demo_options(1));
    const auto prompt = numbered(300, 150);
    const auto branch = joined(numbered(300, 100), numbered(700, 20));
    const Outcome expected = run_one(*alone.batch, greedy_request(prompt, 8));
    const Outcome expected_branch = run_one(*alone.batch, greedy_request(branch, 8));

    const auto opened = open_batch(demo_options(4));
    const SequenceId first = opened.batch->add(greedy_request(prompt, 8)).value();
    const SequenceId twin = opened.batch->add(greedy_request(prompt, 8)).value();
    const SequenceId other = opened.batch->add(greedy_request(branch, 8)).value();
    const SequenceId stranger = opened.batch->add(greedy_request(numbered(900, 10), 8)).value();
    (void)opened.batch->step();
    EXPECT_EQ(opened.batch->counters().running, 2u);  // the stranger is not held up
    const Outcomes outcomes = run_all(*opened.batch);
    EXPECT_EQ(outcomes.at(first).tokens, expected.tokens);
    EXPECT_EQ(outcomes.at(twin).tokens, expected.tokens);
    EXPECT_EQ(outcomes.at(other).tokens, expected_branch.tokens);
    EXPECT_EQ(outcomes.at(twin).finished.reused_tokens, 149u);
    EXPECT_EQ(outcomes.at(other).finished.reused_tokens, 100u);
    EXPECT_EQ(outcomes.at(stranger).finished.reused_tokens, 0u);
    EXPECT_EQ(opened.batch->counters().prompt_tokens, 150u + 1 + 20 + 10);
}

TEST(PrefixCache, WhoWaitsForAnotherPromptReadsItWhenThatIsCancelled) {
    const auto alone = open_batch(demo_options(1));
    const auto prompt = numbered(300, 150);
    const Outcome expected = run_one(*alone.batch, greedy_request(prompt, 8));
    const auto opened = open_batch(demo_options(2));
    const SequenceId first = opened.batch->add(greedy_request(prompt, 8)).value();
    const SequenceId twin = opened.batch->add(greedy_request(prompt, 8)).value();
    (void)opened.batch->step();
    opened.batch->cancel(first);
    const Outcomes outcomes = run_all(*opened.batch);
    EXPECT_EQ(outcomes.at(twin).tokens, expected.tokens);
    EXPECT_EQ(outcomes.at(twin).finished.reason, expected.finished.reason);
    EXPECT_EQ(outcomes.at(first).finished.reason, FinishReason::kCancelled);
    EXPECT_LT(outcomes.at(twin).finished.reused_tokens, 149u);  // what the first had read by then
}

TEST(PrefixCache, TheLeastRecentlyUsedGivesWay) {
    EngineOptions options = demo_options(1);
    options.context_tokens = 256;
    const auto opened = open_batch(options);
    run_one(*opened.batch, greedy_request(numbered(300, 100), 0));
    run_one(*opened.batch, greedy_request(numbered(500, 100), 0));
    run_one(*opened.batch, greedy_request(numbered(300, 100), 0));  // used again
    run_one(*opened.batch, greedy_request(numbered(700, 100), 0));
    EXPECT_EQ(opened.batch->counters().evicted_prefixes, 1u);
    EXPECT_EQ(opened.batch->cached_tokens(numbered(300, 100)), 99u);
    EXPECT_EQ(opened.batch->cached_tokens(numbered(500, 100)), 0u);
    EXPECT_EQ(opened.batch->cached_tokens(numbered(700, 100)), 99u);
}

TEST(PrefixCache, WithoutKeepingNothingStays) {
    const auto opened = open_batch(demo_options(1), {.keep_prefixes = false});
    run_one(*opened.batch, greedy_request(numbered(300, 100), 2));
    EXPECT_EQ(opened.batch->counters().used_tokens, 0u);
}

// ---- files ---------------------------------------------------------------------------------------------------------

class SavedPrefix : public testing::Test {
protected:
    std::string save() {
        const auto opened = open_batch(demo_options(1));
        const std::string path = dir_.file("prefix");
        expected_ = run_one(*opened.batch, greedy_request(prompt_, 20)).tokens;
        EXPECT_EQ(opened.batch->save_prefix(prompt_, path).value(), prompt_.size() + expected_.size() - 1);
        return path;
    }

    hypura::test::TempDir dir_;
    std::vector<Token> prompt_ = numbered(300, 60);
    std::vector<Token> expected_;
};

TEST_F(SavedPrefix, IsReusedByAnotherProcess) {
    const std::string path = save();
    const auto opened = open_batch(demo_options(1));
    EXPECT_EQ(opened.batch->restore_prefix(path).value().size(), prompt_.size() + expected_.size() - 1);
    EXPECT_EQ(opened.batch->cached_tokens(prompt_), prompt_.size() - 1);
    const Outcome outcome = run_one(*opened.batch, greedy_request(prompt_, 20));
    EXPECT_EQ(outcome.finished.reused_tokens, prompt_.size() - 1);
    EXPECT_EQ(outcome.tokens, expected_);
    EXPECT_EQ(std::ranges::distance(std::filesystem::directory_iterator(dir_.file("."))), 1);
}

TEST_F(SavedPrefix, ErrorsHaveNames) {
    const std::string path = save();
    const auto opened = open_batch(demo_options(1));
    const auto code = [&](const std::string& from) { return opened.batch->restore_prefix(from).error().code; };
    EXPECT_EQ(opened.batch->save_prefix(prompt_, path).error().code, ErrorCode::kNotFound);
    EXPECT_EQ(code(dir_.file("absent")), ErrorCode::kNotFound);
    EXPECT_EQ(code(dir_.write("text", "this is no prefix at all, but it is long enough")), ErrorCode::kInvalidArgument);
    const std::string whole = hypura::test::read_file(path);
    EXPECT_EQ(code(dir_.write("half", whole.substr(0, whole.size() / 2))), ErrorCode::kCorruptModel);
    std::string foreign = whole;
    foreign[12 + 8] ^= 1;  // magic, version, count of llama.cpp; then our third word
    EXPECT_EQ(code(dir_.write("foreign", foreign)), ErrorCode::kInvalidArgument);
    EXPECT_EQ(opened.batch->counters().used_tokens, 0u);
    EXPECT_EQ(opened.batch->counters().kept_prefixes, 0u);
    EXPECT_EQ(run_one(*opened.batch, greedy_request(prompt_, 20)).tokens, expected_);
    EXPECT_EQ(opened.batch->save_prefix(prompt_, dir_.file("no/such/folder")).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace hypura::engine
