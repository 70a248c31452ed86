#include "engine/row_tables.h"

#include "engine/tiny_mixture.h"
#include "storage/fault_reader.h"

#include <ggml.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>

namespace hypura::engine {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPageBytes = 4096;

// The token embeddings of a model of 4096 tokens, 68 bytes a row: 60 rows a page, and two neighbouring rows share one.
class RowTablesTest : public testing::Test {
protected:
    explicit RowTablesTest(uint64_t kept_pages = 8)
        : path_(test::write_tiny_mixture(dir_, kRows)),
          model_(gguf::open_model(path_).value()),
          view_(ModelView::create(model_).value()),
          info_(*model_.find_tensor("token_embd.weight")),
          file_(read_file()),
          kept_pages_(kept_pages) {
        context_ = ggml_init({.mem_size = 4 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true});
        table_ = ggml_new_tensor_2d(context_, GGML_TYPE_Q8_0, 64, kRows);
        ids_ = ggml_new_tensor_1d(context_, GGML_TYPE_I32, 1);
        reopen({});
    }
    ~RowTablesTest() override { ggml_free(context_); }

    void reopen(const storage::FaultPlan& fault) {
        auto raw = storage::make_raw_reader({}).value();
        if (fault.nth > 0) raw = storage::make_fault_reader(std::move(raw), fault);
        std::vector<storage::DirectFile> files;
        files.push_back(storage::DirectFile::open(path_).value());
        const TableLayout layout{{.info = &info_, .tensor = table_}, kRowBytes, kept_pages_ * kPageBytes};
        tables_ = std::make_unique<RowTables>(std::span(&layout, 1), view_,
                                              std::make_unique<storage::BlockReader>(std::move(raw), std::move(files)));
    }

    std::string read_file() const {
        std::ifstream file(path_, std::ios::binary);
        return {std::istreambuf_iterator<char>(file), {}};
    }

    Status bring(std::vector<int32_t> rows) {
        ids_->data = rows.data();
        ids_->ne[0] = static_cast<int64_t>(rows.size());
        return tables_->bring(table_, ids_);
    }

    const char* in_file(int32_t row) const {
        return file_.data() + info_.file_offset + kRowBytes * static_cast<uint64_t>(row);
    }
    const std::byte* in_view(int32_t row) const {
        return view_.part_memory(0) + info_.file_offset + kRowBytes * static_cast<uint64_t>(row);
    }
    bool is_there(int32_t row) const { return std::memcmp(in_view(row), in_file(row), kRowBytes) == 0; }
    bool is_blank(int32_t row) const {
        return std::ranges::all_of(std::span(in_view(row), kRowBytes), [](std::byte b) { return b == std::byte{0}; });
    }

    static constexpr uint32_t kRows = 4096;
    static constexpr uint64_t kRowBytes = 68;
    const test::TempDir dir_;
    const std::string path_;
    const gguf::ModelFile model_;
    const ModelView view_;
    const gguf::TensorInfo& info_;
    const std::string file_;
    const uint64_t kept_pages_;
    ggml_context* context_ = nullptr;
    ggml_tensor* table_ = nullptr;
    ggml_tensor* ids_ = nullptr;
    std::unique_ptr<RowTables> tables_;
};

TEST_F(RowTablesTest, BringsTheRowsThatAreNamedAndNoOthers) {
    ASSERT_TRUE(tables_->contains(table_));
    EXPECT_FALSE(tables_->contains(ids_));
    ASSERT_TRUE(bring({4095, 2000, 0, 2000}));
    for (const int32_t row : {0, 2000, 4095}) EXPECT_TRUE(is_there(row)) << row;
    for (const int32_t row : {500, 3000}) EXPECT_TRUE(is_blank(row)) << row;
    EXPECT_LE(tables_->counters().bytes, 6 * kPageBytes);
}

TEST_F(RowTablesTest, EveryRowArrivesWhole) {
    for (int32_t row = 0; row < static_cast<int32_t>(kRows); ++row) {
        tables_->begin_pass();
        ASSERT_TRUE(bring({row}));
        ASSERT_TRUE(is_there(row)) << row;
    }
}

TEST_F(RowTablesTest, ReadsNothingAgainThatIsThere) {
    ASSERT_TRUE(bring({7, 1000}));
    const uint64_t reads = tables_->counters().reads;
    tables_->begin_pass();
    ASSERT_TRUE(bring({1000, 7}));
    EXPECT_EQ(tables_->counters().reads, reads);
}

TEST_F(RowTablesTest, GivesAllBackWhenMoreIsReadThanItMayKeep) {
    for (int32_t row = 100; row < 1800; row += 200) {
        tables_->begin_pass();
        ASSERT_TRUE(bring({row}));
    }
    EXPECT_TRUE(is_blank(100));
    EXPECT_TRUE(is_there(1700));
    const uint64_t reads = tables_->counters().reads;
    tables_->begin_pass();
    ASSERT_TRUE(bring({100}));
    EXPECT_TRUE(is_there(100));
    EXPECT_GT(tables_->counters().reads, reads);
}

TEST_F(RowTablesTest, WhatAPassNamedStaysUntilTheNext) {
    ASSERT_TRUE(bring({100}));
    for (int32_t row = 300; row < 3900; row += 200) ASSERT_TRUE(bring({row}));
    EXPECT_TRUE(is_there(100));
    tables_->begin_pass();
    ASSERT_TRUE(bring({4000}));
    EXPECT_TRUE(is_blank(100));
}

TEST_F(RowTablesTest, AFailedReadIsNamedAndTriedAgainTheNextTime) {
    reopen({.nth = 1, .kind = storage::FaultKind::kIoError, .permanent = true});
    const Status failed = bring({100});
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ErrorCode::kReadFailed);
    EXPECT_THAT(failed.error().message, HasSubstr("token_embd.weight"));
    reopen({});
    ASSERT_TRUE(bring({100}));
    EXPECT_TRUE(is_there(100));
}

TEST_F(RowTablesTest, RefusesRowsThatAreNotThereAndIdsThatAreComputed) {
    for (const int32_t row : {-1, 4096}) {
        const Status refused = bring({row});
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, ErrorCode::kUnsupportedModel);
        EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(row)));
    }
    ids_->op = GGML_OP_ADD;
    EXPECT_EQ(bring({1}).error().code, ErrorCode::kUnsupportedModel);
}

}  // namespace
}  // namespace hypura::engine
