#include "gguf/model_file.h"

#include "support/gguf_builder.h"
#include "support/temp_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

namespace hypura::gguf {
namespace {

using test::GgufBytes;
using test::TempDir;

void expect_failure(const std::string& path, ErrorCode code, std::string_view part) {
    const auto model = open_model(path);
    ASSERT_FALSE(model) << path;
    EXPECT_EQ(model.error().code, code) << model.error().message;
    EXPECT_NE(model.error().message.find(part), std::string::npos) << model.error().message;
    EXPECT_NE(model.error().message.find(path), std::string::npos) << model.error().message;
}

TEST(OpenModel, NamesWhatIsNotThere) {
    const TempDir dir;
    expect_failure(dir.file("none.gguf"), ErrorCode::kNotFound, "no such file");
    const std::string file = dir.write("file", "x");
    expect_failure(file + "/below.gguf", ErrorCode::kNotFound, "no such file");
}

TEST(OpenModel, RefusesWhatIsNoFile) {
    const TempDir dir;
    expect_failure(dir.path(), ErrorCode::kNotAFile, "directory");
    const std::string pipe = dir.file("pipe");
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    expect_failure(pipe, ErrorCode::kNotAFile, "not a regular file");  // and does not wait for a writer
    expect_failure("/dev/null", ErrorCode::kNotAFile, "not a regular file");
}

TEST(OpenModel, SaysThatItMayNotRead) {
    const TempDir dir;
    const std::string path = dir.write("secret.gguf", "GGUF");
    ASSERT_EQ(::chmod(path.c_str(), 0), 0);
    ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
    const uid_t user = ::geteuid();
    constexpr uid_t kNobody = 65534;
    // The superuser may read everything.
    if (::seteuid(user == 0 ? kNobody : user) != 0) GTEST_SKIP() << "there is no other user to be";
    expect_failure(path, ErrorCode::kPermissionDenied, "permission denied");
    ASSERT_EQ(::seteuid(user), 0);
}

TEST(OpenModel, AcceptsModelsWithoutTensors) {
    const TempDir dir;
    const auto model = open_model(dir.write("vocab.gguf", GgufBytes().start(0, 1).uint32_key("a", 1).bytes()));
    ASSERT_TRUE(model);
    EXPECT_TRUE(model->tensors.empty());
    EXPECT_EQ(model->parts[0].data_offset, model->parts[0].size_bytes);
}

TEST(OpenModel, ReadsVersionTwoAndOtherAlignments) {
    const TempDir dir;
    GgufBytes bytes;
    bytes.start(1, 1, 2).uint32_key("general.alignment", 256).tensor("t", {3, 5}, test::kF32, 256).data(512, 256);
    const auto model = open_model(dir.write("m.gguf", bytes.bytes()));
    ASSERT_TRUE(model);
    EXPECT_EQ(model->parts[0].data_offset, 256u);
    EXPECT_EQ(model->tensors[0].file_offset, 512u);
    EXPECT_EQ(model->tensors[0].size_bytes, 60u);
}

TEST(OpenModel, SortsTensorsIntoFileOrder) {
    const TempDir dir;
    GgufBytes bytes;
    bytes.start(2, 0).tensor("second", {8}, test::kF32, 32).tensor("first", {8}, test::kF32, 0).data(64);
    const auto model = open_model(dir.write("m.gguf", bytes.bytes()));
    ASSERT_TRUE(model);
    EXPECT_EQ(model->tensors[0].name, "first");
    EXPECT_EQ(model->find_tensor("second"), &model->tensors[1]);
    EXPECT_EQ(model->find_tensor("third"), nullptr);
}

TEST(OpenModel, WidensEveryKindOfValue) {
    const TempDir dir;
    GgufBytes bytes;
    bytes.start(0, 6);
    bytes.string("u8").number<uint32_t>(0).number<uint8_t>(200);
    bytes.string("i16").number<uint32_t>(3).number<int16_t>(-5);
    bytes.string("f32").number<uint32_t>(6).number(0.5f);
    bytes.string("bool").number<uint32_t>(7).number<uint8_t>(2);
    bytes.array_key("i8s", 1, 2).number<int8_t>(-1).number<int8_t>(7);
    bytes.array_key("texts", 8, 2).string("").string("ab");
    const auto model = open_model(dir.write("m.gguf", bytes.bytes()));
    ASSERT_TRUE(model);
    EXPECT_EQ(model->metadata.at("u8"), Value(uint64_t{200}));
    EXPECT_EQ(model->metadata.at("i16"), Value(int64_t{-5}));
    EXPECT_EQ(model->metadata.at("f32"), Value(0.5));
    EXPECT_EQ(model->metadata.at("bool"), Value(true));
    EXPECT_EQ(model->metadata.at("i8s"), Value(std::vector<int64_t>{-1, 7}));
    EXPECT_EQ(model->metadata.at("texts"), Value(std::vector<std::string>{"", "ab"}));
    EXPECT_FALSE(model->find_uint("i16"));
    EXPECT_FALSE(model->find_string("u8"));
}

class CheckUnchanged : public testing::Test {
protected:
    CheckUnchanged() : path_(dir_.write("m.gguf", GgufBytes().start(1, 0).tensor("t", {8}, 0, 0).data(32).bytes())) {
        model_ = open_model(path_).value();
    }
    void expect_changed(std::string_view how) const {
        const Status status = check_unchanged(model_);
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::kModelChanged);
        EXPECT_NE(status.error().message.find(how), std::string::npos) << status.error().message;
    }
    TempDir dir_;
    std::string path_;
    ModelFile model_;
};

TEST_F(CheckUnchanged, AcceptsTheFileItself) { EXPECT_TRUE(check_unchanged(model_)); }

TEST_F(CheckUnchanged, NoticesTruncation) {
    std::filesystem::resize_file(path_, 10);
    expect_changed("truncated");
}

TEST_F(CheckUnchanged, NoticesOtherBytesInItsPlace) {
    const std::string other(test::read_file(path_).size(), 'x');
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the kernel's clock for file times ticks slowly
    dir_.write("m.gguf", other);
    expect_changed("written to");
}

TEST_F(CheckUnchanged, NoticesReplacementByAnEqualFile) {
    const std::string copy = dir_.write("copy", test::read_file(path_));
    std::filesystem::rename(copy, path_);
    expect_changed("replaced");
}

TEST_F(CheckUnchanged, NoticesRemoval) {
    std::filesystem::remove(path_);
    expect_changed("removed");
}

}  // namespace
}  // namespace hypura::gguf
