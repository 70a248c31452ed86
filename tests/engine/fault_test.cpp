// A device that fails: transient faults never change a result, permanent ones are named errors, and the program goes
// on.
#include "engine/engine.h"

#include "base/bytes.h"
#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

namespace hypura::engine {
namespace {

using storage::FaultKind;
using testing::AnyOf;
using testing::HasSubstr;

struct Outcome {
    Status status;
    std::vector<float> logits;
    Report report;
};

EngineOptions streaming(const std::string& path, const storage::FaultPlan& fault = {}) {
    EngineOptions options;
    options.model_path = path;
    options.mode = Mode::kStream;
    options.weights_bytes = 4 * kMiB;
    options.context_tokens = 64;
    options.batch_tokens = 8;
    options.threads = 1;
    options.reader.kind = storage::ReaderKind::kPread;
    options.fault = fault;
    return options;
}

// A short prompt, then single tokens.
Status evaluate_all(Session& session, std::vector<float>& logits) {
    const std::vector<std::vector<Token>> steps = {{1, 300, 301, 302, 303}, {304}, {305}, {306}};
    for (const auto& step : steps) {
        HYPURA_TRY(session.evaluate(step, LogitsWanted::kAll));
        for (size_t row = 0; row < step.size(); ++row) {
            const auto values = session.logits(row);
            logits.insert(logits.end(), values.begin(), values.end());
        }
    }
    return {};
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

Outcome run_once(Engine& engine) {
    Outcome outcome;
    const auto session = engine.new_session().value();
    outcome.status = evaluate_all(*session, outcome.logits);
    outcome.report = engine.report();
    return outcome;
}

class Faults : public testing::TestWithParam<std::tuple<FaultKind, bool>> {
protected:
    static const std::vector<float>& clean() {
        static const std::vector<float> logits = run_once(*Engine::open(streaming(HYPURA_DEMO_MODEL)).value()).logits;
        return logits;
    }

    FaultKind kind() const { return std::get<0>(GetParam()); }
    bool permanent() const { return std::get<1>(GetParam()); }

    // False when the run had fewer reads.
    bool run(uint64_t nth) {
        SCOPED_TRACE(testing::Message() << "read " << nth);
        const auto engine =
            Engine::open(streaming(HYPURA_DEMO_MODEL, {.nth = nth, .kind = kind(), .permanent = permanent()})).value();
        const Outcome first = run_once(*engine);
        if (first.status) {
            EXPECT_TRUE(same_bits(first.logits, clean()));
        } else {
            ++errors_;
            expect_named(first.status.error());
            expect_the_engine_goes_on(*engine, first);
        }
        EXPECT_TRUE(permanent() || first.status);
        return !first.status || first.report.reads.reads >= nth;  // a failed run leaves reads in flight, uncounted
    }

    void expect_named(const Error& error) const {
        const bool ends = kind() == FaultKind::kEndOfFile || kind() == FaultKind::kShortRead;
        EXPECT_EQ(error.code, ends ? ErrorCode::kModelChanged : ErrorCode::kReadFailed) << error.message;
        EXPECT_THAT(error.message, HasSubstr(HYPURA_DEMO_MODEL));
        EXPECT_THAT(error.message, HasSubstr("offset "));
        EXPECT_THAT(error.message, AnyOf(HasSubstr("blk."), HasSubstr("output")));
    }

    // The range stays broken: the same tokens fail again in the same way, after the same good ones.
    static void expect_the_engine_goes_on(Engine& engine, const Outcome& first) {
        const Outcome second = run_once(engine);
        ASSERT_FALSE(second.status);
        EXPECT_EQ(second.status.error().code, first.status.error().code);
        for (const Outcome* outcome : {&first, &second}) {
            ASSERT_LE(outcome->logits.size(), clean().size());
            const auto begun = std::as_bytes(std::span(outcome->logits));  // it may have failed at the first token
            EXPECT_TRUE(std::ranges::equal(begun, std::as_bytes(std::span(clean())).first(begun.size())));
        }
    }

    int errors_ = 0;
};

TEST_P(Faults, AreSurvivedOrNamed) {
    ASSERT_FALSE(clean().empty());
    uint64_t nth = 1;
    while (run(nth)) nth += nth < 6 ? 1 : nth / 2;
    EXPECT_GT(nth, 20u);
    EXPECT_GE(errors_, permanent() ? 5 : 0);
}

std::string fault_name(const testing::TestParamInfo<std::tuple<FaultKind, bool>>& info) {
    constexpr const char* kKinds[] = {"IoError", "ShortRead", "Interrupted", "EndOfFile"};
    const auto& [kind, permanent] = info.param;
    return std::string(kKinds[static_cast<int>(kind)]) + (permanent ? "Permanent" : "Once");
}

INSTANTIATE_TEST_SUITE_P(Streaming, Faults,
                         testing::Combine(testing::Values(FaultKind::kIoError, FaultKind::kShortRead,
                                                          FaultKind::kInterrupted, FaultKind::kEndOfFile),
                                          testing::Bool()),
                         fault_name);

TEST(ChangedModel, TruncationWhileOpenIsAnErrorAndNotGarbage) {
    const test::TempDir dir;
    const std::string path = dir.file("model.gguf");
    std::filesystem::copy_file(HYPURA_DEMO_MODEL, path);
    const auto engine = Engine::open(streaming(path)).value();
    ASSERT_EQ(::truncate(path.c_str(), static_cast<off_t>(engine->file().parts[0].data_offset)), 0);

    const auto session = engine->new_session().value();
    std::vector<float> logits;
    const Status status = evaluate_all(*session, logits);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kModelChanged) << status.error().message;
    EXPECT_THAT(status.error().message, HasSubstr(path));
    EXPECT_TRUE(logits.empty());
    EXPECT_EQ(session->position(), 0u);
}

}  // namespace
}  // namespace hypura::engine
