// Every truncation and many changes of every byte of a valid file: refused or accepted, never a crash, and whatever is
// accepted lies inside the file. The sanitizer builds make this a memory check; fuzz/ goes further.
#include "gguf/reader.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"

#include <gtest/gtest.h>

#include <string>

namespace hypura::gguf {
namespace {

std::string valid_file() {
    const test::TempDir dir;
    const std::vector tensors = {test::tensor_spec("token_embd.weight", "q8_0", {32, 4}),
                                 test::tensor_spec("blk.0.ffn_up_exps.weight", "f32", {4, 2, 2}),
                                 test::tensor_spec("output_norm.weight", "f16", {5})};
    const Metadata metadata = {{"general.architecture", "tiny"},
                               {"tiny.block_count", uint64_t{1}},
                               {"tiny.eps", 0.5},
                               {"tokenizer.ggml.tokens", std::vector<std::string>{"a", "bc", ""}},
                               {"tiny.list", std::vector<int64_t>{-1, 2}},
                               {"tiny.flag", true}};
    test::write_test_model(dir.file("m.gguf"), metadata, tensors);
    return test::read_file(dir.file("m.gguf"));
}

Result<Header> read_bytes(std::string_view bytes) {
    return read_header(memory_source("m.gguf", std::as_bytes(std::span(bytes))));
}

void expect_sound(const Result<Header>& header, uint64_t file_bytes) {
    if (!header) {
        EXPECT_TRUE(header.error().message.starts_with("m.gguf: "));
        return;
    }
    for (const TensorInfo& tensor : header->tensors) {
        EXPECT_LE(tensor.file_offset, file_bytes);
        EXPECT_LE(tensor.size_bytes, file_bytes - tensor.file_offset);
    }
}

TEST(MutatedGguf, EveryTruncationIsNoticed) {
    const std::string valid = valid_file();
    const auto header = read_bytes(valid);
    ASSERT_TRUE(header);
    const TensorInfo& last = header->tensors.back();
    for (size_t length = 0; length < last.file_offset + last.size_bytes; ++length)
        EXPECT_FALSE(read_bytes(std::string_view(valid).substr(0, length))) << length;
}

TEST(MutatedGguf, EveryChangedByteIsSurvived) {
    const std::string valid = valid_file();
    for (size_t at = 0; at < valid.size(); ++at) {
        for (const int change : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
            std::string changed = valid;
            changed[at] = static_cast<char>(changed[at] ^ change);
            expect_sound(read_bytes(changed), changed.size());
        }
    }
}

// 64-bit lengths, counts and offsets at their extremes, wherever they may lie.
TEST(MutatedGguf, EveryExtremeNumberIsSurvived) {
    const std::string valid = valid_file();
    for (size_t at = 0; at + 8 <= valid.size(); ++at) {
        for (const uint64_t extreme :
             {uint64_t{0}, UINT64_MAX, uint64_t{1} << 63, uint64_t{1} << 32, UINT64_MAX - 31}) {
            std::string changed = valid;
            changed.replace(at, 8, reinterpret_cast<const char*>(&extreme), 8);
            expect_sound(read_bytes(changed), changed.size());
        }
    }
}

}  // namespace
}  // namespace hypura::gguf
