#include "cli/options.h"

#include "base/bytes.h"

#include <gtest/gtest.h>

#include <fstream>

namespace hypura::cli {
namespace {

constexpr uint64_t kUsable = 8 * kGiB;

EngineFlags flags_with(std::string EngineFlags::* field, std::string text) {
    EngineFlags flags;
    flags.*field = std::move(text);
    return flags;
}

ErrorCode error_of(const EngineFlags& flags) {
    const auto options = to_engine_options(flags, kUsable);
    EXPECT_FALSE(options.has_value());
    return options ? ErrorCode::kInternal : options.error().code;
}

TEST(CacheFlag, NamesATypeOrAllowsAll) {
    using placement::CacheType;
    EXPECT_EQ(parse_cache_flag("f16").value(), std::vector{CacheType::kF16});
    EXPECT_EQ(parse_cache_flag("q8_0").value(), std::vector{CacheType::kQ8_0});
    EXPECT_EQ(parse_cache_flag("auto").value().size(), 3u);
    EXPECT_EQ(parse_cache_flag("q5").error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(to_engine_options(EngineFlags{}, 1).value().cache_types, std::vector{CacheType::kF16});
}

TEST(EngineOptions, DefaultsLeaveTheDecisionToTheEngine) {
    const auto options = to_engine_options(EngineFlags{}, kUsable);
    ASSERT_TRUE(options.has_value());
    EXPECT_EQ(options->mode, engine::Mode::kAuto);
    EXPECT_EQ(options->ram_bytes, 0U);
    EXPECT_EQ(options->weights_bytes, 0U);
    EXPECT_EQ(options->fault.nth, 0U);
}

TEST(EngineOptions, SizesAndPercentages) {
    EngineFlags flags;
    flags.ram = "25%";
    flags.weights = "512MiB";
    const auto options = to_engine_options(flags, kUsable);
    ASSERT_TRUE(options.has_value());
    EXPECT_EQ(options->ram_bytes, 2 * kGiB);
    EXPECT_EQ(options->weights_bytes, 512 * kMiB);
}

TEST(EngineOptions, NamesTheFlagThatIsWrong) {
    const auto options = to_engine_options(flags_with(&EngineFlags::weights, "lots"), kUsable);
    ASSERT_FALSE(options.has_value());
    EXPECT_TRUE(options.error().message.contains("--weights")) << options.error().message;
}

TEST(EngineOptions, RefusesWhatMeansNothing) {
    EXPECT_EQ(error_of(flags_with(&EngineFlags::mode, "fast")), ErrorCode::kInvalidArgument);
    EXPECT_EQ(error_of(flags_with(&EngineFlags::io, "dma")), ErrorCode::kInvalidArgument);
    EXPECT_EQ(error_of(flags_with(&EngineFlags::ram, "0")), ErrorCode::kInvalidArgument);
    EXPECT_EQ(error_of(flags_with(&EngineFlags::ram, "")), ErrorCode::kInvalidArgument);
    EXPECT_EQ(error_of(flags_with(&EngineFlags::fault, "x:eio")), ErrorCode::kInvalidArgument);
    EngineFlags no_batch;
    no_batch.batch_tokens = 0;
    EXPECT_EQ(error_of(no_batch), ErrorCode::kInvalidArgument);
}

TEST(EngineOptions, ModesReadersAndFaults) {
    EngineFlags flags;
    flags.mode = "stream";
    flags.io = "pread";
    flags.fault = "3:eio:permanent";
    const auto options = to_engine_options(flags, kUsable);
    ASSERT_TRUE(options.has_value());
    EXPECT_EQ(options->mode, engine::Mode::kStream);
    EXPECT_EQ(options->reader.kind, storage::ReaderKind::kPread);
    EXPECT_EQ(options->fault.nth, 3U);
    EXPECT_TRUE(options->fault.permanent);
    EXPECT_EQ(options->load_fault.nth, 0U);
    flags.fault = "load:2:eof";
    EXPECT_EQ(to_engine_options(flags, kUsable)->load_fault.nth, 2U);
    EXPECT_EQ(to_engine_options(flags, kUsable)->fault.nth, 0U);
}

TEST(EngineOptions, DraftsAreAKindOrAModel) {
    using engine::DraftKind;
    const auto drafts = [](const std::string& text) {
        return to_engine_options(EngineFlags{.draft = text}, kGiB).value();
    };
    EXPECT_EQ(drafts("auto").drafts, DraftKind::kAuto);
    EXPECT_EQ(drafts("none").drafts, DraftKind::kNone);
    EXPECT_EQ(drafts("lookup").drafts, DraftKind::kLookup);
    EXPECT_EQ(drafts("small.gguf").drafts, DraftKind::kModel);
    EXPECT_EQ(drafts("small.gguf").draft_model_path, "small.gguf");
}

TEST(SamplingOptions, FlagThenModelThenDefault) {
    gguf::Metadata metadata;
    metadata["general.sampling.temp"] = 0.0;
    metadata["general.sampling.top_k"] = uint64_t{7};
    SamplingFlags flags;
    flags.top_k = 3;
    const auto options = to_sampling_options(flags, metadata);
    EXPECT_EQ(options.temperature, 0.0F);
    EXPECT_EQ(options.top_k, 3);
    EXPECT_EQ(options.top_p, engine::SamplingOptions{}.top_p);
}

TEST(SamplingOptions, IgnoresMetadataOfAnotherKind) {
    gguf::Metadata metadata;
    metadata["general.sampling.temp"] = std::string("warm");
    EXPECT_EQ(to_sampling_options({}, metadata).temperature, engine::SamplingOptions{}.temperature);
}

TEST(ParseTokens, ListsAndFiles) {
    EXPECT_EQ(parse_tokens("1,2, 30").value(), (std::vector<engine::Token>{1, 2, 30}));
    const std::string path = testing::TempDir() + "hypura_tokens.txt";
    std::ofstream(path) << "4\n5,6\n";
    EXPECT_EQ(parse_tokens("@" + path).value(), (std::vector<engine::Token>{4, 5, 6}));
}

TEST(ParseTokens, RefusesWhatIsNoToken) {
    for (const char* text : {"", ",", "1,x", "-1", "1.5", "99999999999"})
        EXPECT_EQ(parse_tokens(text).error().code, ErrorCode::kInvalidArgument) << text;
    EXPECT_EQ(parse_tokens("@/no/such/file").error().code, ErrorCode::kNotFound);
}

TEST(ReadText, ADirectoryIsNoFile) { EXPECT_EQ(read_text(testing::TempDir()).error().code, ErrorCode::kNotAFile); }

}  // namespace
}  // namespace hypura::cli
