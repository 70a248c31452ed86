// Many sequences in one batch, over a streamed demo model: each gets what it would get alone.
#include "engine/batch_engine.h"

#include "engine/batch_support.h"
#include "engine/generate.h"
#include "engine/share_out.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace hypura::engine {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;

const std::array<std::string, 5> kQuestions = {"What is hypura.cpp?", "Why does mmap thrash?",
                                               "Tell me a short story about a brave fox named Mia.", "What is a cache?",
                                               "Who are you?"};

// ---- sharing out ---------------------------------------------------------------------------------------------------

TEST(ShareOut, GivesEverybodyTheSameAndWhatIsLeftToTheNeedy) {
    EXPECT_THAT(share_out(std::vector<uint32_t>{100, 3, 100}, 63), ElementsAre(30, 3, 30));
    EXPECT_THAT(share_out(std::vector<uint32_t>{5, 5}, 100), ElementsAre(5, 5));
    EXPECT_THAT(share_out(std::vector<uint32_t>{9, 9, 9}, 2), ElementsAre(1, 1, 0));
    EXPECT_THAT(share_out(std::vector<uint32_t>{}, 10), ElementsAre());
    EXPECT_THAT(share_out(std::vector<uint32_t>{7, 7}, 0), ElementsAre(0, 0));
}

TEST(ShareOut, NeverMoreThanTheLimitNorLessThanItAllows) {
    const std::vector<uint32_t> wanted = {1, 17, 4, 300, 2, 2, 90};
    for (uint32_t limit = 0; limit < 450; ++limit) {
        const auto shares = share_out(wanted, limit);
        EXPECT_EQ(std::accumulate(shares.begin(), shares.end(), 0U), std::min(limit, 416U));
        for (size_t i = 0; i < wanted.size(); ++i) EXPECT_LE(shares[i], wanted[i]);
    }
}

// ---- exactness -----------------------------------------------------------------------------------------------------

std::vector<Token> alone(Engine& engine, const std::vector<Token>& prompt, uint32_t max_tokens) {
    const auto session = engine.new_session().value();
    return generate(engine, *session, prompt, {.max_tokens = max_tokens, .sampling = greedy()}, {}).value().tokens;
}

TEST(Batch, GreedyTextIsWhatEachSequenceGetsAlone) {
    const auto engine = Engine::open(demo_options(8)).value();
    std::vector<std::vector<Token>> expected;
    for (const std::string& question : kQuestions)
        expected.push_back(alone(*engine, chat_prompt(*engine, question), 60));

    const auto batch = engine->new_batch({}).value();
    std::vector<SequenceId> ids;
    for (const std::string& question : kQuestions)
        ids.push_back(batch->add(greedy_request(chat_prompt(*engine, question), 60)).value());
    const Outcomes outcomes = run_all(*batch);
    for (size_t i = 0; i < ids.size(); ++i) {
        EXPECT_EQ(outcomes.at(ids[i]).tokens, expected[i]) << kQuestions[i];
        EXPECT_FALSE(expected[i].empty());
    }
    EXPECT_LE(batch->counters().passes, 64u);  // shared: alone, they would take some 300
}

TEST(Batch, LateComersAndSeedsChangeNothingForTheOthers) {
    const auto opened = open_batch(demo_options(4));
    GenerateRequest request{.prompt = chat_prompt(*opened.engine, kQuestions[2]), .sampling = {.seed = 7}};
    request.max_tokens = 30;
    const SequenceId first = opened.batch->add(request).value();
    const auto expected = run_all(*opened.batch).at(first).tokens;
    opened.batch->drop_prefixes();

    const SequenceId again = opened.batch->add(request).value();
    Outcomes outcomes;
    for (size_t step = 0; opened.batch->has_work(); ++step) {
        if (step == 3 || step == 9) {
            ASSERT_TRUE(opened.batch->add(greedy_request(chat_prompt(*opened.engine, kQuestions[step % 5]), 12)));
        }
        note(outcomes, opened.batch->step(), step);
    }
    EXPECT_EQ(outcomes.at(again).tokens, expected);
    EXPECT_EQ(outcomes.size(), 3u);
}

// ---- scheduling ----------------------------------------------------------------------------------------------------

TEST(Batch, ALongPromptIsReadInChunksWhileOthersGenerate) {
    const auto opened = open_batch(demo_options(2), {.prefill_chunk_tokens = 8});
    const SequenceId talker = opened.batch->add(greedy_request(chat_prompt(*opened.engine, kQuestions[2]), 60)).value();
    Outcomes outcomes;
    note(outcomes, opened.batch->step(), 0);
    ASSERT_EQ(outcomes.at(talker).tokens.size(), 1u);

    const SequenceId reader = opened.batch->add(greedy_request(numbered(300, 83), 1)).value();
    for (size_t step = 1; step <= 11; ++step) note(outcomes, opened.batch->step(), step);
    EXPECT_EQ(outcomes.at(talker).tokens.size(), 12u);  // one a step, all the time
    EXPECT_EQ(outcomes.at(reader).tokens.size(), 1u);   // 11 chunks: 10 of 8 tokens, one of 3
    std::vector<uint32_t> done;
    for (const PromptProgress& progress : outcomes.at(reader).progress) done.push_back(progress.done_tokens);
    EXPECT_THAT(done, ElementsAre(0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80));
}

TEST(Batch, PromptsShareAPassFairly) {
    const auto opened = open_batch(demo_options(3));  // 64 tokens a pass
    const SequenceId long_one = opened.batch->add(greedy_request(numbered(300, 200), 1)).value();
    const SequenceId short_one = opened.batch->add(greedy_request(numbered(900, 10), 1)).value();
    const SequenceId other = opened.batch->add(greedy_request(numbered(600, 200), 1)).value();
    Outcomes outcomes;
    note(outcomes, opened.batch->step());
    EXPECT_EQ(outcomes.at(short_one).tokens.size(), 1u);
    EXPECT_EQ(outcomes.at(long_one).progress.back().done_tokens, 27u);
    EXPECT_EQ(outcomes.at(other).progress.back().done_tokens, 27u);
}

TEST(Batch, TheQueueIsFirstComeFirstServed) {
    const auto opened = open_batch(demo_options(2));
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(opened.batch->add(greedy_request(numbered(300 + i, 4), 3)));
    (void)opened.batch->step();
    EXPECT_EQ(opened.batch->counters().running, 2u);
    EXPECT_EQ(opened.batch->counters().waiting, 3u);
    std::vector<SequenceId> order;
    while (opened.batch->has_work())
        for (const SequenceEvent& event : opened.batch->step())
            if (std::holds_alternative<Finished>(event.what)) order.push_back(event.sequence);
    EXPECT_THAT(order, ElementsAre(1, 2, 3, 4, 5));
}

TEST(Batch, RequestsThatCannotBeServedAreRefusedAtOnce) {
    const auto opened = open_batch(demo_options(2));
    const auto code = [&](GenerateRequest request) { return opened.batch->add(std::move(request)).error().code; };
    EXPECT_EQ(code(greedy_request({}, 1)), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code(greedy_request({-1}, 1)), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code(greedy_request({1 << 30}, 1)), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code(greedy_request(numbered(300, 1025), 1)), ErrorCode::kInvalidArgument);
    GenerateRequest narrow = greedy_request(numbered(300, 20), 1);
    narrow.context_tokens = 16;
    EXPECT_EQ(code(narrow), ErrorCode::kInvalidArgument);
    GenerateRequest grammar = greedy_request({300}, 1);
    grammar.sampling.grammar = Grammar{.text = "root ::= (", .trigger_patterns = {}, .trigger_tokens = {}};
    EXPECT_EQ(code(grammar), ErrorCode::kInvalidArgument);
    EXPECT_FALSE(opened.batch->has_work());
}

// ---- limits --------------------------------------------------------------------------------------------------------

TEST(Batch, EachSequenceHasItsOwnContext) {
    const auto opened = open_batch(demo_options(2));
    GenerateRequest request = greedy_request(chat_prompt(*opened.engine, kQuestions[2]), 200);
    request.context_tokens = static_cast<uint32_t>(request.prompt.size()) + 5;
    const SequenceId id = opened.batch->add(request).value();
    request.context_tokens = 0;
    const SequenceId free_one = opened.batch->add(request).value();
    const Outcomes outcomes = run_all(*opened.batch);
    EXPECT_EQ(outcomes.at(id).finished.reason, FinishReason::kContextFull);
    EXPECT_EQ(outcomes.at(id).tokens.size(), 6u);  // the last one needs no room: nothing follows it
    EXPECT_GT(outcomes.at(free_one).tokens.size(), 6u);
}

TEST(Batch, ShiftGoesOnWithTheYoungerHalf) {
    const auto opened = open_batch(demo_options(1));
    GenerateRequest request = greedy_request(numbered(300, 30), 60);
    request.context_tokens = 40;
    request.keep_tokens = 4;
    request.shift = true;
    for (const Token token : numbered(0, opened.engine->vocabulary_tokens()))
        if (opened.engine->ends_generation(token)) request.sampling.biases.push_back({token, -INFINITY});
    const SequenceId id = opened.batch->add(request).value();
    const Outcomes outcomes = run_all(*opened.batch);
    EXPECT_EQ(outcomes.at(id).finished.reason, FinishReason::kMaxTokens);
    EXPECT_EQ(outcomes.at(id).tokens.size(), 60u);
    EXPECT_GE(opened.batch->counters().shifts, 2u);
}

TEST(Batch, ZeroTokensWarmsThePrefixUp) {
    const auto opened = open_batch(demo_options(1));
    const auto prompt = numbered(300, 20);
    const SequenceId id = opened.batch->add(greedy_request(prompt, 0)).value();
    EXPECT_EQ(run_all(*opened.batch).at(id).finished.reason, FinishReason::kMaxTokens);
    EXPECT_EQ(opened.batch->cached_tokens(prompt), 19u);
}

TEST(Batch, SequencesThatOutgrowTheCacheTakeTurns) {
    EngineOptions options = demo_options(5);
    options.context_tokens = 256;  // the five answers need more
    const auto opened = open_batch(options);
    std::vector<std::vector<Token>> expected;
    uint32_t needed = 0;
    for (const std::string& question : kQuestions) {
        const SequenceId id = opened.batch->add(greedy_request(chat_prompt(*opened.engine, question), 100)).value();
        const Outcome outcome = run_all(*opened.batch).at(id);
        expected.push_back(outcome.tokens);
        needed += outcome.finished.prompt_tokens + outcome.finished.generated_tokens;
        opened.batch->drop_prefixes();
    }
    EXPECT_GT(needed, 300u);
    std::vector<SequenceId> ids;
    for (const std::string& question : kQuestions)
        ids.push_back(opened.batch->add(greedy_request(chat_prompt(*opened.engine, question), 100)).value());
    Outcomes outcomes;
    while (opened.batch->has_work()) {
        note(outcomes, opened.batch->step());
        EXPECT_LE(opened.batch->counters().used_tokens, 256u);
    }
    for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(outcomes.at(ids[i]).tokens, expected[i]) << kQuestions[i];
    EXPECT_GE(opened.batch->counters().requeued, 1u);
}

// ---- cancelling ----------------------------------------------------------------------------------------------------

TEST(Batch, CancelledSequencesEndWithTheNextStepAndLeaveTheirPrefix) {
    const auto opened = open_batch(demo_options(2));
    const auto prompt = chat_prompt(*opened.engine, kQuestions[2]);
    const SequenceId stays = opened.batch->add(greedy_request(chat_prompt(*opened.engine, kQuestions[0]), 20)).value();
    const SequenceId goes = opened.batch->add(greedy_request(prompt, 20)).value();
    const SequenceId waits = opened.batch->add(greedy_request(prompt, 20)).value();
    Outcomes outcomes;
    for (int i = 0; i < 3; ++i) note(outcomes, opened.batch->step());
    opened.batch->cancel(goes);
    opened.batch->cancel(waits);
    opened.batch->cancel(4711);
    note(outcomes, opened.batch->step());
    EXPECT_EQ(outcomes.at(goes).finished.reason, FinishReason::kCancelled);
    EXPECT_EQ(outcomes.at(goes).tokens.size(), 3u);
    EXPECT_EQ(outcomes.at(waits).finished.reason, FinishReason::kCancelled);
    EXPECT_EQ(outcomes.at(stays).ends, 0);
    EXPECT_EQ(opened.batch->cached_tokens(prompt), prompt.size() - 1);
    EXPECT_EQ(run_all(*opened.batch).at(stays).finished.reason, FinishReason::kMaxTokens);
}

// Calls back from within each pass, on the model thread, before anything is computed.
struct PassHook final : residency::CacheObserver {
    std::function<void()> on_pass;
    void pass_begins(uint32_t) override { on_pass(); }
    void acquired(std::span<const residency::PageId>, std::span<const residency::Found>,
                  const residency::LayerStandings&) override {}
    void prefetched(residency::PageId) override {}
    void withdrawn(residency::PageId) override {}
};

TEST(Batch, APassWhoseSequencesAreAllCancelledIsAbandoned) {
    const auto opened = open_batch(demo_options(2));
    const auto prompt = numbered(300, 40);
    PassHook hook;
    SequenceId one = 0;
    SequenceId two = 0;
    hook.on_pass = [&] {
        opened.batch->cancel(one);
        opened.batch->cancel(two);
    };
    opened.engine->observe(&hook);
    one = opened.batch->add(greedy_request(prompt, 5)).value();
    two = opened.batch->add(greedy_request(numbered(500, 20), 5)).value();
    Outcomes outcomes;
    note(outcomes, opened.batch->step());
    opened.engine->observe(nullptr);
    EXPECT_EQ(outcomes.at(one).finished.reason, FinishReason::kCancelled);
    EXPECT_EQ(outcomes.at(two).finished.reason, FinishReason::kCancelled);
    EXPECT_EQ(opened.batch->counters().failed_passes, 1u);
    EXPECT_EQ(opened.batch->counters().used_tokens, 0u);
    EXPECT_FALSE(opened.batch->has_work());

    const SequenceId after = opened.batch->add(greedy_request(prompt, 5)).value();
    const auto tokens = run_all(*opened.batch).at(after).tokens;
    const auto fresh = open_batch(demo_options(2));
    const SequenceId same = fresh.batch->add(greedy_request(prompt, 5)).value();
    EXPECT_EQ(tokens, run_all(*fresh.batch).at(same).tokens);
}

TEST(Batch, AnInterruptedStepIsDoneAgain) {
    const auto opened = open_batch(demo_options(2));
    const auto prompt = chat_prompt(*opened.engine, kQuestions[1]);
    const SequenceId first = opened.batch->add(greedy_request(prompt, 10)).value();
    const auto expected = run_all(*opened.batch).at(first).tokens;
    opened.batch->drop_prefixes();
    PassHook hook;
    int passes = 0;
    hook.on_pass = [&] {
        if (++passes % 3 == 0) opened.batch->interrupt();
    };
    opened.engine->observe(&hook);
    const SequenceId second = opened.batch->add(greedy_request(prompt, 10)).value();
    EXPECT_EQ(run_all(*opened.batch).at(second).tokens, expected);
    EXPECT_GE(opened.batch->counters().failed_passes, 3u);
    opened.engine->observe(nullptr);
}

}  // namespace
}  // namespace hypura::engine
