// One test a way in which a header can be wrong: the error's code, and what the message must tell.
#include "base/bytes.h"
#include "gguf/limits.h"
#include "gguf/reader.h"
#include "support/gguf_builder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace hypura::gguf {
namespace {

using test::GgufBytes;
using test::kF32;
using test::kQ8_0;

void expect_failure(std::string_view bytes, ErrorCode code, std::string_view part) {
    const auto header = read_header(memory_source("m.gguf", std::as_bytes(std::span(bytes))));
    ASSERT_FALSE(header);
    const Error& error = header.error();
    EXPECT_EQ(error.code, code) << error.message;
    EXPECT_NE(error.message.find(part), std::string::npos) << error.message;
    EXPECT_TRUE(error.message.starts_with("m.gguf: ")) << error.message;
}

void expect_corrupt(const GgufBytes& bytes, std::string_view part) {
    expect_failure(bytes.bytes(), ErrorCode::kCorruptModel, part);
}

// Scripts tell these apart by the exit code.
void expect_flaw(const GgufBytes& bytes, ModelFlaw flaw, std::string_view part) {
    expect_corrupt(bytes, part);
    const auto header = read_header(memory_source("m.gguf", std::as_bytes(std::span(bytes.bytes()))));
    EXPECT_TRUE(!header && header.error().flaw == flaw) << part;
}

// A file of one F32 tensor of 8 elements at `offset`, with that much data.
GgufBytes one_tensor(uint64_t offset, size_t data_bytes) {
    return GgufBytes().start(1, 0).tensor("t", {8}, kF32, offset).data(data_bytes);
}

TEST(MalformedGguf, Empty) { expect_failure("", ErrorCode::kNotGguf, "empty"); }
TEST(MalformedGguf, TooShort) { expect_failure("GG", ErrorCode::kNotGguf, "too short"); }
TEST(MalformedGguf, BadMagic) { expect_failure("PK\3\4 and so on", ErrorCode::kNotGguf, "does not begin with 'GGUF'"); }
TEST(MalformedGguf, GitLfsPointer) {
    expect_failure("version https://git-lfs.github.com/spec/v1", ErrorCode::kNotGguf, "git lfs pull");
}

TEST(MalformedGguf, BigEndian) {
    expect_failure(GgufBytes().start(0, 0, 0x03000000).bytes(), ErrorCode::kUnsupportedModel, "big-endian");
}
TEST(MalformedGguf, UnknownVersion) {
    for (const uint32_t version : {0u, 1u, 4u, 77u})
        expect_failure(GgufBytes().start(0, 0, version).bytes(), ErrorCode::kUnsupportedModel,
                       "GGUF version " + std::to_string(version));
}

TEST(MalformedGguf, EndsInsideTheHeader) {
    expect_flaw(GgufBytes().text("GGUF").number<uint32_t>(3), ModelFlaw::kTruncated, "ends inside its header");
    expect_flaw(GgufBytes().start(0, 1).string("a key").number<uint32_t>(10), ModelFlaw::kTruncated,
                "ends inside its header");
}

TEST(MalformedGguf, AbsurdCounts) {
    expect_flaw(GgufBytes().start(UINT64_MAX, 0), ModelFlaw::kAbsurdCount, "18446744073709551615 tensors");
    expect_flaw(GgufBytes().start(0, UINT64_MAX), ModelFlaw::kAbsurdCount, "18446744073709551615 metadata keys");
    expect_flaw(GgufBytes().start(1000, 0).data(100), ModelFlaw::kTruncated, "1000 tensors, which do not fit");
    expect_flaw(GgufBytes().start(0, 1000).data(100), ModelFlaw::kTruncated, "1000 metadata keys, which do not fit");
}

TEST(MalformedGguf, AbsurdLengths) {
    expect_corrupt(GgufBytes().start(0, 1).number(UINT64_MAX).data(64), "a metadata key at byte");
    expect_corrupt(GgufBytes().start(0, 1).string("k").number<uint32_t>(8).number(uint64_t{1} << 40).data(64),
                   "a metadata string at byte");
    expect_corrupt(GgufBytes().start(0, 1).string("k").number<uint32_t>(8).number<uint64_t>(5000).data(64),
                   "ends inside its header");
    expect_corrupt(GgufBytes().start(1, 0).string(std::string(64, 'x')).data(64), "a tensor name at byte");
}

TEST(MalformedGguf, AbsurdArrays) {
    expect_corrupt(GgufBytes().start(0, 1).array_key("k", 4, UINT64_MAX).data(64), "array elements, more than");
    expect_corrupt(GgufBytes().start(0, 1).array_key("k", 4, 1000).data(64), "array elements, which do not fit");
    expect_corrupt(GgufBytes().start(0, 1).array_key("k", 8, 1000).data(4000), "array elements, which do not fit");
}

// Widening makes arrays larger in memory than in the file, so their limit is one for the file, not for each.
TEST(MalformedGguf, ManyLargeArraysShareOneLimit) {
    const uint64_t half = kMaxArrayElements / 2 + 1;
    GgufBytes bytes;
    bytes.start(0, 2).array_key("a", 0, half).text(std::string(half, 'x'));
    bytes.array_key("b", 0, half).text(std::string(half, 'x'));
    expect_corrupt(bytes, "array elements, more than");
}

// A terabyte that begins with an array of strings of 1 MiB each, without the memory to hold it.
Result<size_t> read_endless_strings(uint64_t offset, std::span<std::byte> out) {
    static const std::string start = GgufBytes().start(0, 1).array_key("k", 8, 1000).bytes();
    static const std::string record = GgufBytes().string(std::string(kMiB - 8, 'x')).bytes();
    const bool at_start = offset < start.size();
    const std::string_view from = at_start ? std::string_view(start).substr(offset)
                                           : std::string_view(record).substr((offset - start.size()) % kMiB);
    const size_t count = std::min(from.size(), out.size());
    std::memcpy(out.data(), from.data(), count);
    return count;
}

TEST(MalformedGguf, HeaderBeyondTheLimit) {
    const auto header = read_header({"m.gguf", 1024 * kGiB, read_endless_strings});
    ASSERT_FALSE(header);
    EXPECT_NE(header.error().message.find("header is larger than 256 MiB"), std::string::npos);
}

TEST(MalformedGguf, UnknownKinds) {
    expect_corrupt(GgufBytes().start(0, 1).string("k").number<uint32_t>(13).data(64), "key k has the unknown kind 13");
    expect_corrupt(GgufBytes().start(0, 1).array_key("k", 99, 1).data(64), "unusable kind 99");
    expect_corrupt(GgufBytes().start(0, 1).array_key("k", 9, 1).data(64), "unusable kind 9");
}

TEST(MalformedGguf, DuplicateKey) {
    expect_corrupt(GgufBytes().start(0, 2).uint32_key("k", 1).uint32_key("k", 2), "key k occurs twice");
}

TEST(MalformedGguf, BadAlignment) {
    for (const uint32_t alignment : {0u, 3u, 48u, 0x80000000u})
        expect_corrupt(GgufBytes().start(0, 1).uint32_key("general.alignment", alignment), "general.alignment");
    expect_corrupt(GgufBytes().start(0, 1).string("general.alignment").number<uint32_t>(8).string("32"),
                   "general.alignment");
}

TEST(MalformedGguf, UnknownElementType) {
    expect_failure(GgufBytes().start(1, 0).tensor("t", {8}, 4, 0).data(64).bytes(), ErrorCode::kUnsupportedModel,
                   "tensor t has element type 4");
}

TEST(MalformedGguf, BadDimensions) {
    expect_corrupt(GgufBytes().start(1, 0).tensor("t", {8, 0}, kF32, 0).data(64), "dimension of 0");
    expect_corrupt(GgufBytes().start(1, 0).tensor("t", {1, 1, 1, 1, 1}, kF32, 0).data(64), "5 dimensions");
    expect_corrupt(GgufBytes().start(1, 0).tensor("t", {33}, kQ8_0, 0).data(64), "rows of 33 elements");
    expect_corrupt(GgufBytes().start(1, 0).tensor("t", {UINT64_MAX}, kF32, 0).data(64), "impossibly large");
    expect_corrupt(GgufBytes().start(1, 0).tensor("t", {1u << 31, 1u << 31, 4}, kF32, 0).data(64), "impossibly large");
    expect_corrupt(GgufBytes().start(1, 0).tensor("t", {1u << 31, 1u << 31}, kF32, 0).data(64), "impossibly large");
}

TEST(MalformedGguf, MisalignedOffset) {
    expect_flaw(one_tensor(4, 64), ModelFlaw::kMisaligned, "begins at 4, which is no multiple of 32");
}

TEST(MalformedGguf, OffsetThatWraps) {
    expect_flaw(one_tensor(UINT64_MAX - 31, 64), ModelFlaw::kTruncated, "impossible offset");
}

TEST(MalformedGguf, TruncatedData) {
    expect_flaw(one_tensor(0, 31), ModelFlaw::kTruncated,
                "truncated: tensor t needs bytes up to 96, the file has 95; download it again");
    expect_flaw(one_tensor(1024, 32), ModelFlaw::kTruncated, "truncated: tensor t");
    expect_flaw(GgufBytes().start(1, 0).tensor("t", {8}, kF32, 0), ModelFlaw::kTruncated, "truncated: tensor t");
}

TEST(MalformedGguf, OverlappingTensors) {
    GgufBytes bytes;
    bytes.start(2, 0).tensor("b", {8}, kF32, 32).tensor("a", {16}, kF32, 0).data(128);
    expect_flaw(bytes, ModelFlaw::kOverlap, "tensors a and b overlap");
    expect_flaw(GgufBytes().start(2, 0).tensor("a", {8}, kF32, 0).tensor("b", {8}, kF32, 0).data(64),
                ModelFlaw::kOverlap, "overlap");
}

TEST(MalformedGguf, DuplicateTensorNames) {
    expect_corrupt(GgufBytes().start(2, 0).tensor("t", {8}, kF32, 0).tensor("t", {8}, kF32, 32).data(64),
                   "two tensors are named t");
}

TEST(MalformedGguf, NamesCannotControlTheTerminal) {
    expect_corrupt(GgufBytes().start(1, 0).tensor("\x1b[2Jt", {0}, kF32, 0).data(64), "tensor ?[2Jt has");
}

}  // namespace
}  // namespace hypura::gguf
