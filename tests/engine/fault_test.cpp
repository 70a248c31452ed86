// A device that fails: transient faults never change a result, permanent ones are named errors, and the program goes
// on.
#include "engine/engine.h"

#include "base/bytes.h"
#include "engine/tiny_mixture.h"
#include "support/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

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

// So small that each of its reads can fail in turn.
const std::string& tiny_model() {
    static const test::TempDir dir;
    static const std::string path = test::write_tiny_mixture(dir, 512);
    return path;
}

EngineOptions tiny_options() {
    EngineOptions options = streaming(tiny_model());
    options.smallest_pool = true;
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
    explicit Faults(EngineOptions options = streaming(HYPURA_DEMO_MODEL))
        : options_(std::move(options)), clean_(run_once(*Engine::open(options_).value()).logits) {}

    FaultKind kind() const { return std::get<0>(GetParam()); }
    bool permanent() const { return std::get<1>(GetParam()); }

    // False when the run had fewer reads of that kind.
    bool run(uint64_t nth, storage::FaultPlan EngineOptions::* fault, storage::ReadCounters Report::* reads) {
        SCOPED_TRACE(testing::Message() << "read " << nth);
        options_.*fault = {.nth = nth, .kind = kind(), .permanent = permanent()};
        const auto engine = Engine::open(options_).value();
        const Outcome first = run_once(*engine);
        if (first.status) {
            EXPECT_TRUE(same_bits(first.logits, clean_));
        } else {
            ++errors_;
            expect_named(first.status.error());
            expect_the_engine_goes_on(*engine, first);
        }
        EXPECT_TRUE(permanent() || first.status);
        return !first.status || (first.report.*reads).reads >= nth;  // a failed run leaves reads in flight, uncounted
    }

    void expect_named(const Error& error) const {
        const bool ends = kind() == FaultKind::kEndOfFile || kind() == FaultKind::kShortRead;
        EXPECT_EQ(error.code, ends ? ErrorCode::kModelChanged : ErrorCode::kReadFailed) << error.message;
        EXPECT_THAT(error.message, HasSubstr(options_.model_path));
        EXPECT_THAT(error.message, HasSubstr("offset "));
        EXPECT_THAT(error.message, AnyOf(HasSubstr("blk."), HasSubstr("output"), HasSubstr("token_embd")));
    }

    // The range stays broken: the same tokens fail again in the same way, after the same good ones.
    void expect_the_engine_goes_on(Engine& engine, const Outcome& first) const {
        const Outcome second = run_once(engine);
        ASSERT_FALSE(second.status);
        EXPECT_EQ(second.status.error().code, first.status.error().code);
        for (const Outcome* outcome : {&first, &second}) {
            ASSERT_LE(outcome->logits.size(), clean_.size());
            const auto begun = std::as_bytes(std::span(outcome->logits));  // it may have failed at the first token
            EXPECT_TRUE(std::ranges::equal(begun, std::as_bytes(std::span(clean_)).first(begun.size())));
        }
    }

    EngineOptions options_;
    const std::vector<float> clean_;
    int errors_ = 0;
};

class EveryFault : public Faults {
protected:
    EveryFault() : Faults(tiny_options()) {}
};

TEST_P(EveryFault, IsSurvivedOrNamed) {
    uint64_t nth = 1;
    while (run(nth, &EngineOptions::fault, &Report::reads)) ++nth;
    EXPECT_GT(nth, 20u);
    EXPECT_GE(errors_, permanent() ? 20 : 0);
}

TEST_P(EveryFault, OfEmbeddingsIsSurvivedOrNamed) {
    uint64_t nth = 1;
    while (run(nth, &EngineOptions::row_fault, &Report::row_reads)) ++nth;
    EXPECT_GT(nth, 1u);
    EXPECT_GE(errors_, permanent() ? 1 : 0);
}

// Nothing is opened with weights that are not all there.
TEST_P(EveryFault, WhileLoadingIsSurvivedOrNamed) {
    const uint64_t reads = Engine::open(options_).value()->report().load_reads.reads;
    ASSERT_GT(reads, 0u);
    for (uint64_t nth = 1; nth <= reads; ++nth) {
        SCOPED_TRACE(testing::Message() << "read " << nth);
        options_.load_fault = {.nth = nth, .kind = kind(), .permanent = permanent()};
        const auto engine = Engine::open(options_);
        ASSERT_EQ(engine.has_value(), !permanent());
        if (!engine) {
            expect_named(engine.error());
            continue;
        }
        const Outcome outcome = run_once(**engine);
        EXPECT_TRUE(outcome.status && same_bits(outcome.logits, clean_));
    }
}

TEST_P(Faults, AreSurvivedOrNamed) {
    ASSERT_FALSE(clean_.empty());
    uint64_t nth = 1;
    while (run(nth, &EngineOptions::fault, &Report::reads)) nth += nth < 6 ? 1 : nth / 2;
    EXPECT_GT(nth, 20u);
    EXPECT_GE(errors_, permanent() ? 5 : 0);
}

std::string fault_name(const testing::TestParamInfo<std::tuple<FaultKind, bool>>& info) {
    constexpr const char* kKinds[] = {"IoError", "ShortRead", "Interrupted", "EndOfFile"};
    const auto& [kind, permanent] = info.param;
    return std::string(kKinds[static_cast<int>(kind)]) + (permanent ? "Permanent" : "Once");
}

const auto kAllFaults = testing::Combine(
    testing::Values(FaultKind::kIoError, FaultKind::kShortRead, FaultKind::kInterrupted, FaultKind::kEndOfFile),
    testing::Bool());
INSTANTIATE_TEST_SUITE_P(Streaming, Faults, kAllFaults, fault_name);
INSTANTIATE_TEST_SUITE_P(Streaming, EveryFault, kAllFaults, fault_name);

class ChangedModel : public testing::TestWithParam<Mode> {
protected:
    ChangedModel() { std::filesystem::copy_file(HYPURA_DEMO_MODEL, path_); }

    std::unique_ptr<Engine> open() const {
        EngineOptions options = streaming(path_);
        options.mode = GetParam();
        if (options.mode != Mode::kStream) options.weights_bytes = 0;
        return Engine::open(options).value();
    }

    // Other bytes in all tensors, in a file of the same length.
    void overwrite(const Engine& engine) const {
        std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
        const gguf::Part& part = engine.file().parts[0];
        file.seekp(static_cast<std::streamoff>(part.data_offset));
        file << std::string(part.size_bytes - part.data_offset, '\x11');
    }

    void expect_an_error(Engine& engine, std::string_view how) const {
        const auto session = engine.new_session().value();
        std::vector<float> logits;
        const Status status = evaluate_all(*session, logits);
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::kModelChanged) << status.error().message;
        EXPECT_THAT(status.error().message, HasSubstr(path_));
        EXPECT_THAT(status.error().message, HasSubstr(how));
        EXPECT_TRUE(logits.empty());
        EXPECT_EQ(session->position(), 0u);
    }

    test::TempDir dir_;
    const std::string path_ = dir_.file("model.gguf");
};

// Not under kMmap: there it is a SIGBUS, which tests/cli/end_to_end.py provokes.
TEST_P(ChangedModel, TruncationWhileOpenIsAnErrorAndNotGarbage) {
    if (GetParam() == Mode::kMmap) return;
    const auto engine = open();
    ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(engine->file().parts[0].data_offset)), 0);
    expect_an_error(*engine, "shorter");
}

TEST_P(ChangedModel, OtherBytesInItsPlaceAreAnErrorAndNotGarbage) {
    const auto engine = open();
    overwrite(*engine);
    expect_an_error(*engine, "written to");
}

// What was opened can still be read, but it is not the model that this path names now.
TEST_P(ChangedModel, ReplacementIsAnError) {
    const auto engine = open();
    std::filesystem::copy_file(HYPURA_DEMO_MODEL, dir_.file("copy"));
    std::filesystem::rename(dir_.file("copy"), path_);
    expect_an_error(*engine, "replaced");
}

INSTANTIATE_TEST_SUITE_P(Modes, ChangedModel, testing::Values(Mode::kStream, Mode::kMmap),
                         [](const auto& mode) { return std::string(to_string(mode.param)); });

TEST(ChangedModelInMemory, DoesNotMatter) {
    const test::TempDir dir;
    const std::string path = dir.file("model.gguf");
    std::filesystem::copy_file(HYPURA_DEMO_MODEL, path);
    EngineOptions options = streaming(path);
    options.mode = Mode::kResident;
    options.weights_bytes = 0;
    const auto engine = Engine::open(options).value();
    std::filesystem::remove(path);
    EXPECT_TRUE(run_once(*engine).status);
}

}  // namespace
}  // namespace hypura::engine
