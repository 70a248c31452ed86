#include "base/clock.h"
#include "storage_test_support.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace hypura::storage {
namespace {

using testing::HasSubstr;

class BlockReaders : public BothReaders {
protected:
    std::unique_ptr<BlockReader> reader_for(const std::string& path, uint32_t piece_bytes = 8192) const {
        return make_block_reader(make_reader(GetParam()), path, piece_bytes);
    }
};

Status read_into(BlockReader& reader, const GuardedBuffer& buffer, uint64_t offset, uint64_t bytes) {
    return read_now(reader, {.offset = offset, .bytes = bytes, .destination = buffer.destination(), .what = "blk.0"});
}

void expect_block(BlockReader& reader, const std::string& content, uint64_t offset, uint64_t bytes,
                  uint64_t misalignment) {
    SCOPED_TRACE(std::format("offset {} bytes {} misalignment {}", offset, bytes, misalignment));
    const GuardedBuffer buffer(bytes, misalignment);
    const Status status = read_into(reader, buffer, offset, bytes);
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_TRUE(buffer.content() == content.substr(offset, bytes));
    EXPECT_TRUE(buffer.guards_intact());
}

void expect_random_blocks(BlockReader& reader, const std::string& content) {
    std::mt19937 random(42);
    for (int round = 0; round < 200; ++round) {
        const uint64_t offset = random() % content.size();
        const uint64_t bytes = random() % std::min<uint64_t>(content.size() - offset + 1, 70'000);
        // Every other block is congruent modulo 4096, and so needs no move.
        expect_block(reader, content, offset, bytes, round % 2 == 0 ? offset % 4096 : random() % 8192);
    }
}

TEST_P(BlockReaders, ReadsAnyRangeToAnyAddress) {
    const std::string content = random_content(300'001);
    auto reader = reader_for(dir_.write("model", content));
    expect_random_blocks(*reader, content);
}

TEST_P(BlockReaders, ReadsFilesInMemoryFilesystems) {
    if (!std::filesystem::is_directory("/dev/shm")) GTEST_SKIP() << "no /dev/shm";
    const std::string content = random_content(100'001);
    const std::string path =
        std::format("/dev/shm/hypura-storage-test-{}-{}", ::getpid(), reader_for(dir_.write("any", "x"))->raw_name());
    {
        std::ofstream(path, std::ios::binary) << content;
    }
    auto reader = reader_for(path);
    std::filesystem::remove(path);
    expect_random_blocks(*reader, content);
}

TEST_P(BlockReaders, ReadsTheUnalignedEndOfTheFile) {
    for (const uint64_t file_bytes : {1u, 511u, 513u, 4096u, 4097u, 20'001u}) {
        const std::string content = random_content(file_bytes);
        auto reader = reader_for(dir_.write("model", content));
        expect_block(*reader, content, 0, file_bytes, 0);
        expect_block(*reader, content, file_bytes - 1, 1, 3);
        expect_block(*reader, content, file_bytes, 0, 0);
    }
}

TEST_P(BlockReaders, CutsLargeBlocksIntoPieces) {
    const std::string content = random_content(10 * 4096);
    auto reader = reader_for(dir_.write("model", content), 8192 + 100);
    expect_block(*reader, content, 0, content.size(), 0);
    EXPECT_EQ(reader->counters().reads, 5u);
    EXPECT_EQ(reader->counters().bytes, content.size());
    EXPECT_EQ(reader->counters().retries, 0u);
    EXPECT_GT(reader->counters().busy_us, 0);
}

TEST_P(BlockReaders, KeepsManyBlocksOutstanding) {
    const std::string content = random_content(400'000);
    auto reader = reader_for(dir_.write("model", content));
    std::vector<GuardedBuffer> buffers;
    std::vector<BlockRead> reads;
    for (uint64_t i = 0; i < 40; ++i) {
        buffers.emplace_back(9'999, i * 7);
        reads.push_back({0, i * 10'000, 9'999, buffers.back().destination(), i, "blk"});
    }
    ASSERT_TRUE(reader->submit(reads));
    EXPECT_EQ(reader->outstanding(), 40u);

    std::vector<BlockCompletion> completions;
    while (reader->outstanding() > 0) ASSERT_TRUE(reader->collect(completions, true));
    ASSERT_EQ(completions.size(), 40u);
    for (const BlockCompletion& completion : completions) {
        ASSERT_TRUE(completion.status);
        EXPECT_TRUE(buffers[completion.tag].content() == content.substr(completion.tag * 10'000, 9'999));
        EXPECT_TRUE(buffers[completion.tag].guards_intact());
    }
}

TEST_P(BlockReaders, DestructionWaitsForReadsInFlight) {
    const std::string path = dir_.write("model", random_content(400'000));
    for (int round = 0; round < 20; ++round) {
        const GuardedBuffer buffer(400'000, 0);
        auto reader = reader_for(path);
        const BlockRead read{0, 0, 400'000, buffer.destination(), 0, "blk"};
        ASSERT_TRUE(reader->submit({&read, 1}));
    }
}

TEST_P(BlockReaders, RefusesRangesOutsideTheFile) {
    auto reader = reader_for(dir_.write("model", random_content(1000)));
    const GuardedBuffer buffer(100, 0);
    for (const uint64_t offset : {uint64_t{901}, uint64_t{1001}, UINT64_MAX - 50}) {
        const Status status = read_into(*reader, buffer, offset, 100);
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::kCorruptModel);
        EXPECT_THAT(status.error().message, HasSubstr("blk.0"));
    }
    EXPECT_EQ(reader->counters().failures, 3u);
    EXPECT_EQ(reader->counters().reads, 0u);
}

TEST_P(BlockReaders, NoticesTruncationWhileOpen) {
    const std::string content = random_content(100'000);
    const std::string path = dir_.write("model", content);
    auto reader = reader_for(path);
    ASSERT_EQ(::truncate(path.c_str(), 50'000), 0);

    expect_block(*reader, content, 0, 50'000, 0);
    const GuardedBuffer buffer(20'000, 0);
    const Status status = read_into(*reader, buffer, 40'000, 20'000);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kModelChanged);
    EXPECT_THAT(status.error().message, HasSubstr(path));
    EXPECT_THAT(status.error().message, HasSubstr("shorter than when it was opened"));
    EXPECT_THAT(status.error().message, HasSubstr("blk.0"));
    EXPECT_TRUE(buffer.guards_intact());
}

// ---- faults: every read of a run fails in turn ---------------------------------------------------------------------

struct Fault {
    FaultKind kind;
    bool permanent;
};

class Faults : public testing::TestWithParam<std::tuple<ReaderKind, Fault>> {
protected:
    static constexpr uint64_t kOffset = 12'345;
    static constexpr uint64_t kBytes = 28'500;  // four pieces, the last of them nearly whole

    void SetUp() override {
        if (reader_kind() == ReaderKind::kUring && !have_uring()) GTEST_SKIP() << "io_uring is not available here";
        content_ = random_content(60'000);
        path_ = dir_.write("model", content_);
    }
    ReaderKind reader_kind() const { return std::get<0>(GetParam()); }
    Fault fault() const { return std::get<1>(GetParam()); }

    // Fails the n-th read of a run. False when the run had fewer reads, so that nothing failed.
    bool run(uint64_t nth, uint64_t misalignment) {
        SCOPED_TRACE(std::format("read {} misalignment {}", nth, misalignment));
        const FaultPlan plan{.nth = nth, .kind = fault().kind, .permanent = fault().permanent};
        auto reader = make_block_reader(make_fault_reader(make_reader(reader_kind()), plan), path_, 8192);
        const GuardedBuffer buffer(kBytes, misalignment);
        const Status status = read_into(*reader, buffer, kOffset, kBytes);
        EXPECT_TRUE(buffer.guards_intact());
        EXPECT_EQ(reader->outstanding(), 0u);

        const bool struck = reader->counters().reads >= nth;
        if (struck && fault().permanent) {
            expect_named_error(status);
            EXPECT_EQ(reader->counters().failures, 1u);
        } else {
            EXPECT_TRUE(status) << status.error().message;
            EXPECT_TRUE(buffer.content() == content_.substr(kOffset, kBytes));
            EXPECT_EQ(reader->counters().retries, struck ? 1u : 0u);
        }
        return struck;
    }

    void expect_named_error(const Status& status) const {
        ASSERT_FALSE(status);
        const bool ends = fault().kind == FaultKind::kEndOfFile || fault().kind == FaultKind::kShortRead;
        EXPECT_EQ(status.error().code, ends ? ErrorCode::kModelChanged : ErrorCode::kReadFailed);
        EXPECT_THAT(status.error().message, HasSubstr(path_));
        EXPECT_THAT(status.error().message, HasSubstr(std::format("offset {}", kOffset)));
        EXPECT_THAT(status.error().message, HasSubstr("blk.0"));
    }

    test::TempDir dir_;
    std::string content_;
    std::string path_;
};

TEST_P(Faults, AreSurvivedOrNamed) {
    for (const uint64_t misalignment : {kOffset % 4096, uint64_t{77}}) {
        uint64_t nth = 1;
        while (run(nth, misalignment)) ++nth;
        EXPECT_EQ(nth, 5u);
    }
}

std::string fault_name(const testing::TestParamInfo<std::tuple<ReaderKind, Fault>>& info) {
    const auto& [reader, fault] = info.param;
    constexpr const char* kKinds[] = {"IoError", "ShortRead", "Interrupted", "EndOfFile"};
    return std::format("{}{}{}", reader == ReaderKind::kUring ? "Uring" : "Pread", kKinds[static_cast<int>(fault.kind)],
                       fault.permanent ? "Permanent" : "Once");
}

INSTANTIATE_TEST_SUITE_P(, BlockReaders, testing::Values(ReaderKind::kUring, ReaderKind::kPread), reader_name);
INSTANTIATE_TEST_SUITE_P(
    , Faults,
    testing::Combine(testing::Values(ReaderKind::kUring, ReaderKind::kPread),
                     testing::Values(Fault{FaultKind::kIoError, false}, Fault{FaultKind::kIoError, true},
                                     Fault{FaultKind::kShortRead, false}, Fault{FaultKind::kShortRead, true},
                                     Fault{FaultKind::kInterrupted, false}, Fault{FaultKind::kInterrupted, true},
                                     Fault{FaultKind::kEndOfFile, false}, Fault{FaultKind::kEndOfFile, true})),
    fault_name);

// ---- answers that no file gives on demand: a scripted raw reader ---------------------------------------------------

// Gives every read the same result, and counts them.
class StuckReader final : public RawReader {
public:
    StuckReader(int64_t result, int& reads) : result_(result), reads_(reads) {}
    Status submit(std::span<const RawRead> reads) override {
        for (const RawRead& read : reads) completions_.push_back({read.tag, result_});
        reads_ += static_cast<int>(reads.size());
        return {};
    }
    Status collect(std::vector<RawCompletion>& out, bool) override {
        out.insert(out.end(), completions_.begin(), completions_.end());
        completions_.clear();
        return {};
    }
    size_t in_flight() const override { return completions_.size(); }
    std::string_view name() const override { return "stuck"; }

private:
    int64_t result_;
    int& reads_;
    std::vector<RawCompletion> completions_;
};

TEST(BlockReader, GivesUpAfterBoundedRetries) {
    struct Case {
        int64_t result;
        int reads;
    };
    test::TempDir dir;
    const std::string path = dir.write("model", random_content(8192));
    const bool direct = DirectFile::open(path).value().direct();
    for (const Case& c : {Case{-EINTR, 9}, Case{-EAGAIN, 9}, Case{-EIO, 3}, Case{0, 3}, Case{-EBADF, 1}, Case{1, 9}}) {
        if (c.result == 1 && !direct) continue;  // buffered, one byte is progress
        int reads = 0;
        auto reader = make_block_reader(std::make_unique<StuckReader>(c.result, reads), path, 8192);
        const GuardedBuffer buffer(8192, 0);
        EXPECT_FALSE(read_into(*reader, buffer, 0, 8192));
        EXPECT_EQ(reads, c.reads) << c.result;
        EXPECT_EQ(reader->counters().reads, static_cast<uint64_t>(reads));
    }
}

}  // namespace
}  // namespace hypura::storage
