#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace hypura::engine {
namespace {

std::unique_ptr<Engine> open_demo(uint32_t batch_tokens) {
    EngineOptions options;
    options.model_path = HYPURA_DEMO_MODEL;
    options.mode = Mode::kStream;
    options.weights_bytes = 8u << 20;
    options.batch_tokens = batch_tokens;
    options.context_tokens = 128;
    options.threads = 1;
    auto engine = Engine::open(options);
    EXPECT_TRUE(engine) << engine.error().message;
    return engine ? std::move(*engine) : nullptr;
}

std::vector<float> last_row(Session& session, const std::vector<Token>& tokens, LogitsWanted wanted) {
    session.clear();
    EXPECT_TRUE(session.evaluate(tokens, wanted));
    const auto row = session.logits(wanted == LogitsWanted::kAll ? tokens.size() - 1 : 0);
    return {row.begin(), row.end()};
}

// The last pass of the prompt has one token: row 0 must be that token's, not an earlier pass's.
TEST(Session, LastLogitsAreTheLastTokensWhateverThePasses) {
    const auto engine = open_demo(4);
    ASSERT_NE(engine, nullptr);
    const auto session = engine->new_session();
    ASSERT_TRUE(session);
    const std::vector<Token> tokens = {300, 301, 302, 303, 304, 305, 306, 307, 308};
    const auto all = last_row(**session, tokens, LogitsWanted::kAll);
    EXPECT_EQ(last_row(**session, tokens, LogitsWanted::kLast), all);
    EXPECT_EQ(all.size(), engine->vocabulary_tokens());
    EXPECT_TRUE((*session)->logits(1).empty());
}

// A person who waits for gigabytes sees them come, in whatever mode.
TEST(Loading, TellsItsProgressInEveryMode) {
    for (const Mode mode : {Mode::kResident, Mode::kStream, Mode::kMmap}) {
        SCOPED_TRACE(to_string(mode));
        std::vector<LoadProgress> seen;
        EngineOptions options;
        options.model_path = HYPURA_DEMO_MODEL;
        options.mode = mode;
        options.threads = 1;
        options.on_load = [&](const LoadProgress& progress) { seen.push_back(progress); };
        const auto engine = Engine::open(options);
        ASSERT_TRUE(engine) << engine.error().message;
        ASSERT_FALSE(seen.empty());
        EXPECT_TRUE(std::ranges::is_sorted(seen, {}, &LoadProgress::done_bytes));
        EXPECT_EQ(seen.back().done_bytes, seen.back().total_bytes);
        EXPECT_GT(seen.size(), mode == Mode::kStream ? 0u : 10u);
    }
}

TEST(Session, TokensBeyondTheVocabularyAreNamed) {
    const auto engine = open_demo(4);
    ASSERT_NE(engine, nullptr);
    const auto session = engine->new_session();
    ASSERT_TRUE(session);
    for (const Token token : {static_cast<Token>(engine->vocabulary_tokens()), Token{-1}}) {
        const Status status = (*session)->evaluate(std::vector<Token>{300, token}, LogitsWanted::kLast);
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
        EXPECT_TRUE(status.error().message.contains(std::to_string(token))) << status.error().message;
    }
    EXPECT_EQ((*session)->position(), 0u);
}

TEST(Session, RewindGivesTheSameLogitsAgain) {
    const auto engine = open_demo(8);
    ASSERT_NE(engine, nullptr);
    const auto session = engine->new_session();
    ASSERT_TRUE(session);
    ASSERT_TRUE((*session)->evaluate(std::vector<Token>{300, 301, 302}, LogitsWanted::kLast));
    ASSERT_TRUE((*session)->evaluate(std::vector<Token>{400}, LogitsWanted::kLast));
    const std::vector<float> first((*session)->logits(0).begin(), (*session)->logits(0).end());
    ASSERT_TRUE((*session)->rewind(3));
    EXPECT_EQ((*session)->position(), 3u);
    ASSERT_TRUE((*session)->evaluate(std::vector<Token>{400}, LogitsWanted::kLast));
    EXPECT_TRUE(std::ranges::equal(first, (*session)->logits(0)));
}

TEST(Session, OnlyOneLivesAtATime) {
    const auto engine = open_demo(8);
    ASSERT_NE(engine, nullptr);
    auto first = engine->new_session();
    ASSERT_TRUE(first);
    EXPECT_FALSE(engine->new_session());
    first->reset();
    EXPECT_TRUE(engine->new_session());
}

}  // namespace
}  // namespace hypura::engine
