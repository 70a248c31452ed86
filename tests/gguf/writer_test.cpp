#include "gguf/writer.h"

#include "base/bytes.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

namespace hypura::gguf {
namespace {

using test::fill_pattern;
using test::TempDir;
using test::tensor_spec;

Status write(const std::string& path, const Metadata& metadata, const std::vector<TensorSpec>& tensors) {
    return write_model(path, metadata, tensors, fill_pattern);
}

void expect_refused(const Metadata& metadata, const std::vector<TensorSpec>& tensors, std::string_view part) {
    const TempDir dir;
    const Status status = write(dir.file("m.gguf"), metadata, tensors);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(status.error().message.find(part), std::string::npos) << status.error().message;
    EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(WriteModel, MetadataComesBackAsItWas) {
    const TempDir dir;
    const Metadata metadata = {{"text", "some text"},
                               {"small", uint64_t{7}},
                               {"large", uint64_t{1} << 40},
                               {"negative", int64_t{-7}},
                               {"very negative", -(int64_t{1} << 40)},
                               {"real", 0.25},
                               {"flag", false},
                               {"texts", std::vector<std::string>{"", "b"}},
                               {"numbers", std::vector<uint64_t>{1, 1ull << 33}},
                               {"signed numbers", std::vector<int64_t>{-1, 3}},
                               {"reals", std::vector<double>{0.5, -2}},
                               {"none", std::vector<uint64_t>{}}};
    ASSERT_TRUE(write(dir.file("m.gguf"), metadata, {}));
    const auto model = open_model(dir.file("m.gguf"));
    ASSERT_TRUE(model);
    EXPECT_EQ(model->metadata, metadata);
}

TEST(WriteModel, TensorsComeBackWithTheirBytes) {
    const TempDir dir;
    const std::vector specs = {tensor_spec("a", "f32", {5}), tensor_spec("b", "q4_K", {512, 3, 2}),
                               tensor_spec("c", "i8", {1})};
    test::write_test_model(dir.file("m.gguf"), {}, specs);
    const auto model = open_model(dir.file("m.gguf"));
    ASSERT_TRUE(model) << model.error().message;
    const std::string bytes = test::read_file(dir.file("m.gguf"));
    ASSERT_EQ(model->tensors.size(), specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
        const TensorInfo& tensor = model->tensors[i];
        EXPECT_EQ(tensor.name, specs[i].name);
        EXPECT_EQ(tensor.size_bytes, specs[i].size_bytes());
        EXPECT_TRUE(is_aligned(tensor.file_offset, 32));
        for (uint64_t at = 0; at < tensor.size_bytes; ++at)
            ASSERT_EQ(std::byte(bytes[tensor.file_offset + at]), test::pattern_byte(i, at)) << tensor.name << " " << at;
    }
}

TEST(WriteModel, StreamsLargeTensorsInWholeBlocks) {
    const TempDir dir;
    const std::vector specs = {tensor_spec("large", "q6_K", {256, 100'000})};  // 20 MiB in blocks of 210 bytes
    uint64_t expected = 0, reported = 0, total = 0;
    const auto fill = [&](size_t, uint64_t offset, std::span<std::byte> chunk) {
        EXPECT_EQ(offset, expected);
        EXPECT_EQ(chunk.size() % 210, 0u);
        EXPECT_LE(chunk.size(), 16 * kMiB);
        expected += chunk.size();
    };
    const auto progress = [&](uint64_t written, uint64_t all) { reported = written, total = all; };
    ASSERT_TRUE(write_model(dir.file("m.gguf"), {}, specs, fill, progress));
    EXPECT_EQ(expected, specs[0].size_bytes());
    EXPECT_EQ(reported, total);
    EXPECT_EQ(total, std::filesystem::file_size(dir.file("m.gguf")));
}

TEST(WriteModel, ReplacesWhatWasThereAndLeavesNothingElse) {
    const TempDir dir;
    const std::string path = dir.write("m.gguf", "old");
    ASSERT_TRUE(write(path, {}, {tensor_spec("a", "f32", {5})}));
    EXPECT_TRUE(open_model(path));
    EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
}

TEST(WriteModel, RefusesTensorsThatNoFileCanHold) {
    expect_refused({}, {tensor_spec("a", "f32", {})}, "tensor a");
    expect_refused({}, {tensor_spec("a", "f32", {1, 2, 3, 4, 5})}, "tensor a");
    expect_refused({}, {tensor_spec("a", "f32", {0})}, "tensor a");
    expect_refused({}, {tensor_spec("a", "q8_0", {33})}, "tensor a");
    expect_refused({}, {tensor_spec("a", "f32", {UINT64_MAX, 2})}, "tensor a");
    expect_refused({}, {tensor_spec("a", "f32", {1}), tensor_spec("a", "f32", {1})}, "two tensors");
    expect_refused({}, {tensor_spec(std::string(64, 'x'), "f32", {1})}, "longer than 63");
    expect_refused({{"general.alignment", uint64_t{64}}}, {}, "general.alignment");
}

TEST(WriteModel, SaysWhereItCannotWrite) {
    const TempDir dir;
    const Status status = write(dir.file("none/m.gguf"), {}, {});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kNotFound);
    EXPECT_NE(status.error().message.find("none/m.gguf"), std::string::npos);
}

// A limit on file sizes stands in for a full disk: the write fails half-way.
class LimitedFileSize {
public:
    explicit LimitedFileSize(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        ::getrlimit(RLIMIT_FSIZE, &old_limit_);
        const rlimit limit{bytes, old_limit_.rlim_max};
        ::setrlimit(RLIMIT_FSIZE, &limit);
    }
    LimitedFileSize(const LimitedFileSize&) = delete;
    LimitedFileSize& operator=(const LimitedFileSize&) = delete;
    ~LimitedFileSize() {
        ::setrlimit(RLIMIT_FSIZE, &old_limit_);
        std::signal(SIGXFSZ, old_handler_);
    }

private:
    rlimit old_limit_{};
    void (*old_handler_)(int);
};

TEST(WriteModel, ADeviceIsNotReplaced) {
    const Status status = write("/dev/null", {}, {tensor_spec("a", "f32", {4})});
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kNotAFile);
    EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(WriteModel, AFailedWriteLeavesTheOldFileAlone) {
    const TempDir dir;
    const std::string path = dir.write("m.gguf", "old");
    const LimitedFileSize limit(64 * kKiB);
    const Status status = write(path, {}, {tensor_spec("a", "f32", {1 << 20})});
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().message.find("m.gguf: cannot write"), std::string::npos) << status.error().message;
    EXPECT_EQ(test::read_file(path), "old");
    EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
}

}  // namespace
}  // namespace hypura::gguf
