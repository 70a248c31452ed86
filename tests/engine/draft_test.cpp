// Drafts change how long a text takes, never what it says.
#include "engine/batch_support.h"
#include "engine/draft_pace.h"
#include "engine/generate.h"
#include "engine/prompt_lookup.h"
#include "gguf/synthetic.h"
#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ranges>

namespace hypura::engine {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- looking up ----------------------------------------------------------------------------------------------------

std::vector<Token> look_up(const std::vector<Token>& text, size_t most) { return look_up_draft(text, most).tokens; }

TEST(PromptLookup, GivesWhatFollowedTheLastTime) {
    EXPECT_THAT(look_up({1, 2, 3, 4, 5, 9, 1, 2, 3}, 2), ElementsAre(4, 5));
    EXPECT_THAT(look_up({1, 2, 3, 4, 8, 1, 2, 3, 5, 8, 1, 2, 3}, 1), ElementsAre(5));     // the latest of equals
    EXPECT_THAT(look_up({7, 1, 2, 3, 4, 8, 1, 2, 3, 5, 7, 1, 2, 3}, 1), ElementsAre(4));  // the longest
}

TEST(PromptLookup, SaysHowMuchWasSaidBefore) {
    EXPECT_EQ(look_up_draft(std::vector<Token>{1, 2, 3, 4, 5, 9, 1, 2, 3}, 2).matched_tokens, 3u);
    EXPECT_EQ(look_up_draft(std::vector<Token>{4, 3, 9, 3}, 2).matched_tokens, 1u);
    EXPECT_EQ(look_up_draft(numbered(1, 9), 2).matched_tokens, 0u);
}

TEST(PromptLookup, GivesNothingWhereNothingRepeats) {
    EXPECT_THAT(look_up({1, 2, 3, 4, 5, 6}, 4), IsEmpty());
    EXPECT_THAT(look_up({}, 4), IsEmpty());
    EXPECT_THAT(look_up({5}, 4), IsEmpty());
    EXPECT_THAT(look_up({1, 2, 3, 1, 2, 3}, 0), IsEmpty());
}

TEST(PromptLookup, ALoopGoesOn) {
    EXPECT_THAT(look_up({1, 7, 7, 7, 7}, 5), ElementsAre(7, 7, 7, 7, 7));
    EXPECT_THAT(look_up({1, 2, 3, 1, 2, 3, 1, 2, 3}, 7), ElementsAre(1, 2, 3, 1, 2, 3, 1));
}

// ---- how many ------------------------------------------------------------------------------------------------------

constexpr DraftBasis kBasis = DraftBasis::kModel;

TEST(DraftPace, AsksForAsManyAsAPassTakesWhereTokensAreFree) {
    DraftPace pace;
    EXPECT_EQ(pace.tokens(kBasis, 1, 100), 0u);  // what one token costs is not known yet
    pace.note_pass(1, 1000);
    EXPECT_EQ(pace.tokens(kBasis, 1, 100), DraftPace::kMostPassTokens - 1);
    EXPECT_EQ(pace.tokens(kBasis, 1, 3), 3u);
    EXPECT_EQ(pace.tokens(kBasis, 1, 0), 0u);
    pace.note_pass(7, 1010);
    EXPECT_EQ(pace.tokens(kBasis, 1, 100), DraftPace::kMostPassTokens - 1);
}

TEST(DraftPace, SharesAPassAmongSequences) {
    DraftPace pace;
    for (const size_t sequences : {2, 3, 4}) pace.note_pass(sequences, 1000);
    EXPECT_EQ(pace.tokens(kBasis, 2, 100), 2u);
    EXPECT_EQ(pace.tokens(kBasis, 3, 100), 1u);
    EXPECT_EQ(pace.tokens(kBasis, 4, 100), 0u);
    EXPECT_EQ(pace.tokens(kBasis, 100, 100), 0u);
}

TEST(DraftPace, AsksForNoneWhereEveryTokenCostsAsMuchAndThenTriesAgain) {
    DraftPace pace;
    for (const size_t tokens : {1, 2, 4, 7}) pace.note_pass(tokens, static_cast<int64_t>(1000 * tokens));
    size_t passes = 0;
    for (; pace.tokens(kBasis, 1, 100) == 0 && passes < 1000; ++passes) pace.note_pass(1, 1000);
    EXPECT_GE(passes, 16u);
    EXPECT_LE(passes, 32u);
    EXPECT_EQ(pace.tokens(kBasis, 1, 100), 1u);
}

TEST(DraftPace, FindsTheLengthThatPays) {
    DraftPace pace;
    pace.note_pass(1, 1000);
    pace.note_pass(4, 1100);
    pace.note_pass(7, 3000);  // computing has become what takes longest
    EXPECT_EQ(pace.tokens(kBasis, 1, 100), 3u);
}

TEST(DraftPace, WrongDraftsEndAndRightOnesComeBack) {
    DraftPace pace;
    pace.note_pass(1, 1000);
    pace.note_pass(7, 1500);
    for (int i = 0; i < 100; ++i) pace.note_draft(kBasis, 6, 0);
    EXPECT_EQ(pace.tokens(kBasis, 1, 100), 0u);
    for (int i = 0; i < 100; ++i) pace.note_draft(kBasis, 6, 6);
    EXPECT_EQ(pace.tokens(kBasis, 1, 100), 6u);
}

TEST(DraftPace, PoorGuessesAreMadeWhereTokensAreFreeAlone) {
    DraftPace pace;
    pace.note_pass(1, 1000);
    pace.note_pass(7, 1000);
    EXPECT_EQ(pace.tokens(basis_of_match(1), 1, 100), 6u);
    for (int i = 0; i < 20; ++i) pace.note_pass(7, 3000);
    EXPECT_EQ(pace.tokens(basis_of_match(1), 1, 100), 0u);
    EXPECT_GT(pace.tokens(basis_of_match(9), 1, 100), 0u);
}

TEST(DraftPace, EachBasisHasARecordOfItsOwn) {
    DraftPace pace;
    pace.note_pass(1, 1000);
    pace.note_pass(7, 2000);
    for (int i = 0; i < 100; ++i) pace.note_draft(basis_of_match(5), 6, 0);
    EXPECT_EQ(basis_of_match(5), basis_of_match(7));
    EXPECT_LT(pace.share_right(basis_of_match(5)), 0.1);
    EXPECT_EQ(pace.tokens(basis_of_match(7), 1, 100), 0u);
    EXPECT_GT(pace.tokens(basis_of_match(8), 1, 100), 0u);
}

// ---- one session ---------------------------------------------------------------------------------------------------

// Says much of it twice.
constexpr const char* kQuestions[] = {
    "Repeat: the brave fox named Mia ran home. The brave fox named Mia ran home. The brave fox named Mia",
    "What is hypura.cpp?",
    "Tell me a short story about a brave fox named Mia.",
};

EngineOptions drafting_options(DraftKind drafts, uint32_t sequences = 1) {
    EngineOptions options = demo_options(sequences);
    options.drafts = drafts;
    return options;
}

struct Answered {
    std::vector<Token> tokens;
    StopReason stop{};
    uint32_t position = 0;
    Report report;
};

Answered answer(const EngineOptions& options, const std::string& question, const GenerateOptions& wanted) {
    const auto engine = Engine::open(options).value();
    const auto session = engine->new_session().value();
    const auto result = generate(*engine, *session, chat_prompt(*engine, question), wanted, {}).value();
    return {result.tokens, result.stop, session->position(), engine->report()};
}

void expect_same(const Answered& drafted, const Answered& plain) {
    EXPECT_EQ(drafted.tokens, plain.tokens);
    EXPECT_EQ(drafted.stop, plain.stop);
    EXPECT_EQ(drafted.position, plain.position);
}

TEST(Drafts, GreedyAndSampledTextStayTheSame) {
    uint64_t accepted = 0;
    for (const char* question : kQuestions) {
        for (const SamplingOptions& sampling : {greedy(), SamplingOptions{.temperature = 0.7F, .seed = 5}}) {
            SCOPED_TRACE(question);
            const GenerateOptions wanted{.max_tokens = 80, .sampling = sampling};
            const Answered plain = answer(drafting_options(DraftKind::kNone), question, wanted);
            const Answered drafted = answer(drafting_options(DraftKind::kLookup), question, wanted);
            expect_same(drafted, plain);
            EXPECT_EQ(plain.report.drafted_tokens, 0u);
            EXPECT_EQ(plain.report.drafts, "none");
            EXPECT_EQ(drafted.report.drafts, "lookup");
            accepted += drafted.report.accepted_tokens;
        }
    }
    EXPECT_GT(accepted, 0u);
}

// The model drafts for itself: all but the ends of answers is right.
TEST(Drafts, AModelDrafts) {
    EngineOptions options = drafting_options(DraftKind::kModel);
    options.draft_model_path = HYPURA_DEMO_MODEL;
    for (const char* question : kQuestions) {
        SCOPED_TRACE(question);
        const GenerateOptions wanted{.max_tokens = 60, .sampling = greedy()};
        const Answered drafted = answer(options, question, wanted);
        expect_same(drafted, answer(drafting_options(DraftKind::kNone), question, wanted));
        EXPECT_EQ(drafted.report.drafts, HYPURA_DEMO_MODEL);
        EXPECT_GT(drafted.report.accepted_tokens, 0u);
        EXPECT_GE(drafted.report.accepted_tokens * 10, drafted.report.drafted_tokens * 7);
    }
}

TEST(Drafts, EveryLengthEndsWhereItShould) {
    const auto engine = Engine::open(drafting_options(DraftKind::kLookup)).value();
    const auto plain = Engine::open(drafting_options(DraftKind::kNone)).value();
    const auto session = engine->new_session().value();
    const auto plain_session = plain->new_session().value();
    const auto prompt = chat_prompt(*engine, kQuestions[0]);
    for (uint32_t most = 1; most <= 24; ++most) {
        const GenerateOptions wanted{.max_tokens = most, .sampling = greedy()};
        session->clear();
        plain_session->clear();
        const auto drafted = generate(*engine, *session, prompt, wanted, {}).value();
        const auto expected = generate(*plain, *plain_session, prompt, wanted, {}).value();
        EXPECT_EQ(drafted.tokens, expected.tokens) << most;
        EXPECT_EQ(session->position(), plain_session->position()) << most;
    }
}

TEST(Drafts, AFullContextEndsAtTheSameToken) {
    for (const uint32_t spare : {1, 2, 3, 5, 8, 12}) {
        const auto run = [&](DraftKind drafts) {
            EngineOptions options = drafting_options(drafts);
            options.context_tokens = 128;
            const auto engine = Engine::open(options).value();
            const auto session = engine->new_session().value();
            const auto prompt = chat_prompt(*engine, kQuestions[0]);
            const std::vector<Token> filler = numbered(300, session->context_tokens() - prompt.size() - spare);
            EXPECT_TRUE(session->evaluate(filler, LogitsWanted::kLast));
            const auto result = generate(*engine, *session, prompt, {.sampling = greedy()}, {}).value();
            return Answered{result.tokens, result.stop, session->position(), engine->report()};
        };
        expect_same(run(DraftKind::kLookup), run(DraftKind::kNone));
    }
}

TEST(Drafts, AModelOfOtherTokensIsRefused) {
    const hypura::test::TempDir dir;
    const gguf::SyntheticModel other =
        gguf::synthesize({.architecture = "qwen3", .layers = 1, .vocabulary = 512}).value();
    ASSERT_TRUE(gguf::write_model(dir.file("other.gguf"), other.metadata, other.tensors, other.fill));
    EngineOptions options = drafting_options(DraftKind::kModel);
    options.draft_model_path = dir.file("other.gguf");
    const auto engine = Engine::open(options);
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().code, ErrorCode::kUnsupportedModel);
    EXPECT_THAT(engine.error().message, HasSubstr("its tokens are not those of"));
}

// ---- dense models --------------------------------------------------------------------------------------------------

std::string write_dense(const hypura::test::TempDir& dir, const std::string& quantization) {
    const gguf::SyntheticSpec spec{.architecture = "qwen3",
                                   .layers = 4,
                                   .embedding = 256,
                                   .feed_forward = 512,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .head_dim = 64,
                                   .vocabulary = 512,
                                   .quantization = quantization};
    const gguf::SyntheticModel model = gguf::synthesize(spec).value();
    EXPECT_TRUE(gguf::write_model(dir.file("dense.gguf"), model.metadata, model.tensors, model.fill));
    return dir.file("dense.gguf");
}

EngineOptions dense_options(const std::string& path, DraftKind drafts) {
    EngineOptions options = drafting_options(drafts);
    options.model_path = path;
    options.context_tokens = 256;
    options.smallest_pool = true;
    return options;
}

// Streamed dense models draft of their own accord, and read the same for several tokens as for one.
TEST(Drafts, ADenseModelReadsLessForTheSameText) {
    const hypura::test::TempDir dir;
    const std::string path = write_dense(dir, "q4_K");
    const auto run = [&](DraftKind drafts) {
        const auto engine = Engine::open(dense_options(path, drafts)).value();
        const auto session = engine->new_session().value();
        GenerateOptions wanted{.max_tokens = 100, .sampling = greedy()};
        for (const Token token : numbered(400, 4)) wanted.sampling.biases.push_back({token, 1000.0F});
        const auto result = generate(*engine, *session, numbered(300, 8), wanted, {}).value();
        return Answered{result.tokens, result.stop, session->position(), engine->report()};
    };
    const Answered drafted = run(DraftKind::kAuto), plain = run(DraftKind::kNone);
    expect_same(drafted, plain);
    EXPECT_EQ(drafted.report.drafts, "lookup");
    EXPECT_GT(drafted.report.scanned_bytes, 0u);
    ASSERT_GT(drafted.report.accepted_tokens, 30u);  // a text of four words repeats itself
    EXPECT_LT(drafted.report.reads.bytes * 4, plain.report.reads.bytes * 3);
}

// What drafts rest on: a few tokens in one pass give the bits that they give one by one.
void expect_same_bits_in_one_pass(const EngineOptions& options, uint32_t history_tokens) {
    const auto engine = Engine::open(options).value();
    const auto session = engine->new_session().value();
    const std::vector<Token> behind = numbered(300, DraftPace::kMostPassTokens);
    std::vector<Token> history(history_tokens);
    for (size_t i = 0; i < history.size(); ++i) history[i] = static_cast<Token>(i * 7 % 500);
    std::vector<float> one_by_one;
    ASSERT_TRUE(session->evaluate(history, LogitsWanted::kLast));
    for (const Token token : behind) {
        ASSERT_TRUE(session->evaluate(std::span(&token, 1), LogitsWanted::kLast));
        one_by_one.append_range(session->logits(0));
    }
    for (size_t size = 2; size <= behind.size(); ++size) {
        ASSERT_TRUE(session->rewind(history_tokens));
        ASSERT_TRUE(session->evaluate(std::span(behind).first(size), LogitsWanted::kOneByOne));
        for (size_t row = 0; row < size; ++row) {
            const auto logits = session->logits(row);
            EXPECT_EQ(std::memcmp(logits.data(), one_by_one.data() + row * logits.size(), logits.size_bytes()), 0)
                << "row " << row << " of " << size;
        }
    }
}

// Behind 508 and 1021 tokens the cells of later rows cross one of libllama's steps.
TEST(Drafts, AFewTokensInOnePassRoundAsOne) {
    const auto check = [](const char* quantization, uint32_t threads, uint32_t history_tokens) {
        SCOPED_TRACE(testing::Message() << quantization << ", " << threads << " threads behind " << history_tokens);
        const hypura::test::TempDir dir;
        EngineOptions options = dense_options(write_dense(dir, quantization), DraftKind::kNone);
        options.context_tokens = 2048;
        options.threads = threads;
        expect_same_bits_in_one_pass(options, history_tokens);
    };
    for (const char* quantization : {"q5_K", "q6_K", "q8_0", "q4_0", "mxfp4", "f16"}) check(quantization, 2, 700);
    for (const uint32_t threads : {1, 2, 3})
        for (const uint32_t history_tokens : {2, 508, 1021}) check("q4_K", threads, history_tokens);
}

TEST(Drafts, AFewTokensInOnePassRoundAsOneWithASmallCache) {
    const hypura::test::TempDir dir;
    EngineOptions options = dense_options(write_dense(dir, "q4_K"), DraftKind::kNone);
    options.context_tokens = 2048;
    options.threads = 2;
    for (const placement::CacheType type : {placement::CacheType::kQ8_0, placement::CacheType::kQ4_0}) {
        SCOPED_TRACE(placement::to_string(type));
        options.cache_types = {type};
        expect_same_bits_in_one_pass(options, 700);
    }
}

TEST(Drafts, AModelLargerThanTheBudgetIsRefused) {
    EngineOptions options = drafting_options(DraftKind::kModel);
    options.draft_model_path = HYPURA_DEMO_MODEL;
    options.weights_bytes = 0;
    options.ram_bytes = 16u << 20;
    const auto engine = Engine::open(options);
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().code, ErrorCode::kBudgetTooSmall);
    EXPECT_THAT(engine.error().message, HasSubstr("name a smaller one"));
}

TEST(Drafts, WhereTheyCannotBeExactTheyAreRefused) {
    const hypura::test::TempDir dir;
    EngineOptions options = drafting_options(DraftKind::kLookup);
    options.model_path = write_dense(dir, "q4_K");
    options.mode = Mode::kMmap;
    options.weights_bytes = 0;
    const auto engine = Engine::open(options);
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().code, ErrorCode::kUnsupportedModel);
    EXPECT_THAT(engine.error().message, HasSubstr("stream on the processor"));
}

TEST(Drafts, AutoLeavesMixturesAndModelsInMemoryAlone) {
    EXPECT_EQ(Engine::open(drafting_options(DraftKind::kAuto)).value()->report().drafts, "none");
    const hypura::test::TempDir dir;
    EngineOptions options = drafting_options(DraftKind::kAuto);
    options.model_path = write_dense(dir, "q4_K");
    options.mode = Mode::kResident;
    options.weights_bytes = 0;
    EXPECT_EQ(Engine::open(options).value()->report().drafts, "none");
}

// ---- a batch -------------------------------------------------------------------------------------------------------

std::vector<std::vector<Token>> batch_answers(const EngineOptions& options, size_t at_once, Report& report) {
    const auto opened = open_batch(options);
    std::vector<std::vector<Token>> answers;
    for (const auto batch : std::span(kQuestions) | std::views::chunk(static_cast<ptrdiff_t>(at_once))) {
        std::vector<SequenceId> ids;
        for (const char* question : batch)
            ids.push_back(opened.batch->add(greedy_request(chat_prompt(*opened.engine, question), 60)).value());
        const Outcomes outcomes = run_all(*opened.batch);
        for (const SequenceId id : ids) answers.push_back(outcomes.at(id).tokens);
    }
    report = opened.engine->report();
    return answers;
}

TEST(BatchDrafts, TextsStayTheSameAloneAndInCompany) {
    for (const size_t at_once : {1, 2, 3}) {
        SCOPED_TRACE(at_once);
        Report drafted, plain;
        const auto expected = batch_answers(drafting_options(DraftKind::kNone, 3), at_once, plain);
        EXPECT_EQ(batch_answers(drafting_options(DraftKind::kLookup, 3), at_once, drafted), expected);
        EXPECT_GT(drafted.accepted_tokens, 0u);
        EXPECT_EQ(plain.drafted_tokens, 0u);
    }
}

TEST(BatchDrafts, LimitsShiftsAndPrefixesAreAsWithout) {
    const auto run = [](DraftKind drafts) {
        const auto opened = open_batch(drafting_options(drafts));
        const auto prompt = chat_prompt(*opened.engine, kQuestions[0]);
        std::vector<std::vector<Token>> answers;
        std::vector<uint32_t> cached;
        for (uint32_t spare = 1; spare <= 10; ++spare) {
            GenerateRequest request = greedy_request(prompt, 30);
            request.context_tokens = static_cast<uint32_t>(prompt.size()) + spare;
            request.shift = spare % 2 == 0;
            request.keep_tokens = 4;
            const SequenceId id = opened.batch->add(request).value();
            answers.push_back(run_all(*opened.batch).at(id).tokens);
            cached.push_back(opened.batch->counters().used_tokens);
            opened.batch->drop_prefixes();
        }
        return std::pair(answers, cached);
    };
    EXPECT_EQ(run(DraftKind::kLookup), run(DraftKind::kNone));
}

TEST(BatchDrafts, TheCacheNeverHoldsMoreThanItHasRoomFor) {
    EngineOptions options = drafting_options(DraftKind::kLookup, 3);
    options.context_tokens = 256;
    Report report;
    const auto answers = batch_answers(options, 3, report);
    options.drafts = DraftKind::kNone;
    EXPECT_EQ(answers, batch_answers(options, 3, report));
}

TEST(BatchDrafts, AFailedPassTakesItsDraftsBack) {
    int failed = 0;
    for (const uint64_t nth : {400, 500, 600, 700, 900}) {
        EngineOptions options = drafting_options(DraftKind::kLookup);
        options.weights_bytes = 4u << 20;
        options.batch_tokens = 8;
        options.reader.kind = storage::ReaderKind::kPread;
        options.fault = {.nth = nth, .kind = storage::FaultKind::kIoError, .permanent = true};
        const auto opened = open_batch(options);
        const auto prompt = chat_prompt(*opened.engine, kQuestions[0]);
        const SequenceId id = opened.batch->add(greedy_request(prompt, 60)).value();
        const Outcome outcome = run_all(*opened.batch).at(id);
        if (outcome.finished.reason != FinishReason::kFailed) continue;
        ++failed;
        EXPECT_EQ(opened.batch->counters().used_tokens, outcome.tokens.empty()
                                                            ? opened.batch->cached_tokens(prompt)
                                                            : prompt.size() + outcome.tokens.size() - 1);
    }
    EXPECT_GE(failed, 2);
}

}  // namespace
}  // namespace hypura::engine
