#include "gguf/model_file.h"

#include "support/gguf_builder.h"
#include "support/temp_dir.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <format>

namespace hypura::gguf {
namespace {

constexpr uint64_t kParts = 3;

class SplitModel : public testing::Test {
protected:
    SplitModel() {
        for (uint64_t index = 0; index < kParts; ++index) write_part(index, index, std::format("blk.{}.w", index));
    }

    std::string part_path(uint64_t index) const {
        return dir_.file(std::format("big-{:05}-of-{:05}.gguf", index + 1, kParts));
    }

    // Writes file `file`, whose metadata say that it is part `index`.
    void write_part(uint64_t file, uint64_t index, const std::string& tensor, int64_t tensors = kParts) const {
        Metadata metadata = {{"split.no", index}, {"split.count", kParts}, {"split.tensors.count", tensors}};
        if (index == 0) metadata["general.architecture"] = "tiny";
        const std::vector specs = {test::tensor_spec(tensor, "f32", {8 + index})};
        test::write_test_model(part_path(file), metadata, specs);
    }

    void expect_failure(const std::string& path, ErrorCode code, std::string_view part) const {
        const auto model = open_model(path);
        ASSERT_FALSE(model);
        EXPECT_EQ(model.error().code, code) << model.error().message;
        EXPECT_NE(model.error().message.find(part), std::string::npos) << model.error().message;
    }

    test::TempDir dir_;
};

TEST_F(SplitModel, OpensByAnyOfItsParts) {
    for (uint64_t given = 0; given < kParts; ++given) {
        const auto model = open_model(part_path(given));
        ASSERT_TRUE(model) << model.error().message;
        ASSERT_EQ(model->parts.size(), kParts);
        EXPECT_EQ(model->parts[0].path, part_path(0));
        EXPECT_EQ(model->find_string("general.architecture"), "tiny");
        EXPECT_EQ(model->find_tensor("blk.2.w")->part, 2u);
        EXPECT_EQ(model->tensor_bytes, 4 * (8u + 9u + 10u));
    }
}

TEST_F(SplitModel, NamesTheMissingPart) {
    std::filesystem::remove(part_path(1));
    expect_failure(part_path(2), ErrorCode::kNotFound, "big-00002-of-00003.gguf: part 2 of the model's 3 is missing");
    EXPECT_EQ(open_model(part_path(2)).error().flaw, ModelFlaw::kMissingPart);
}

TEST_F(SplitModel, NeedsTheOriginalNames) {
    const std::string renamed = dir_.file("renamed.gguf");
    std::filesystem::rename(part_path(0), renamed);
    expect_failure(renamed, ErrorCode::kNotFound, "-00001-of-00003.gguf");
}

TEST_F(SplitModel, NoticesSwappedParts) {
    write_part(1, 2, "blk.1.w");
    expect_failure(part_path(0), ErrorCode::kCorruptModel, "this is part 3 of 3, not part 2 of 3");
}

TEST_F(SplitModel, NoticesPartsOfAnotherModel) {
    write_part(0, 0, "blk.0.w", 7);
    expect_failure(part_path(0), ErrorCode::kCorruptModel, "should have 7 tensors");
    write_part(0, 0, "blk.2.w");
    expect_failure(part_path(0), ErrorCode::kCorruptModel, "two tensors are named blk.2.w");
}

TEST_F(SplitModel, NoticesATruncatedPart) {
    std::filesystem::resize_file(part_path(1), std::filesystem::file_size(part_path(1)) - 64);
    expect_failure(part_path(0), ErrorCode::kCorruptModel, "big-00002-of-00003.gguf: the file is truncated");
}

TEST_F(SplitModel, RefusesImpossiblePositions) {
    test::write_test_model(part_path(0), {{"split.no", uint64_t{3}}, {"split.count", uint64_t{3}}}, {});
    expect_failure(part_path(0), ErrorCode::kCorruptModel, "part 4 of 3");
}

TEST_F(SplitModel, ASplitOfOneIsAnOrdinaryFile) {
    const std::string path = dir_.file("single.gguf");
    test::write_test_model(path, {{"split.no", uint64_t{0}}, {"split.count", uint64_t{1}}}, {});
    EXPECT_TRUE(open_model(path));
}

TEST_F(SplitModel, ChangeOfAnyPartIsNoticed) {
    const auto model = open_model(part_path(0));
    ASSERT_TRUE(model);
    std::filesystem::resize_file(part_path(2), 64);
    const Status status = check_unchanged(*model);
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().message.find(part_path(2)), std::string::npos);
}

}  // namespace
}  // namespace hypura::gguf
