#include "engine/row_tables.h"

#include "base/bytes.h"

#include <ggml.h>
#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace hypura::engine {
namespace {

constexpr uint64_t kPageBytes = 4096;

// The whole pages that belong to the table alone: those at its ends hold other weights, too.
std::span<std::byte> own_pages(const gguf::TensorInfo& info, const ModelView& view) {
    const uint64_t begin = align_up(info.file_offset, kPageBytes);
    const uint64_t end = align_down(info.file_offset + info.size_bytes, kPageBytes);
    if (begin >= end) return {};
    return {view.part_memory(info.part) + begin, end - begin};
}

// Else a row would commit 2 MiB where the system prefers huge pages.
void refuse_huge_pages(std::span<std::byte> pages) {
#ifdef MADV_NOHUGEPAGE
    if (!pages.empty()) ::madvise(pages.data(), pages.size(), MADV_NOHUGEPAGE);
#endif
}

}  // namespace

RowTables::RowTables(std::span<const TableLayout> tables, const ModelView& view,
                     std::unique_ptr<storage::BlockReader> reader)
    : view_(&view), reader_(std::move(reader)) {
    for (const TableLayout& layout : tables) {
        const gguf::TensorInfo& info = *layout.weight.info;
        Table& table = tables_[layout.weight.tensor];
        table.info = &info;
        table.row_bytes = layout.row_bytes;
        table.kept_pages = layout.kept_bytes / kPageBytes;
        table.first_page = info.file_offset / kPageBytes;
        table.held.resize((info.file_offset + info.size_bytes - 1) / kPageBytes - table.first_page + 1);
        refuse_huge_pages(own_pages(info, view));
    }
}

void RowTables::begin_pass() {
    for (auto& [tensor, table] : tables_) table.may_forget = true;
}

Status RowTables::bring(const ggml_tensor* tensor, const ggml_tensor* ids) {
    Table& table = tables_.at(tensor);
    if (!is_given_to_graph(ids))
        return fail(ErrorCode::kUnsupportedModel, "{}: its rows are named by something computed; use --mode mmap",
                    table.info->name);
    const std::span rows(static_cast<const int32_t*>(ids->data), static_cast<size_t>(ggml_nelements(ids)));
    HYPURA_TRY(list_absent(table, rows));
    if (table.may_forget && table.held_pages + absent_.size() > table.kept_pages) {
        forget(table);
        HYPURA_TRY(list_absent(table, rows));
    }
    table.may_forget = false;
    Status read = read_absent(table);
    if (!read) forget(table);
    return read;
}

// Fills absent_, in file order.
Status RowTables::list_absent(Table& table, std::span<const int32_t> rows) {
    absent_.clear();
    const uint64_t table_rows = table.info->size_bytes / table.row_bytes;
    for (const int32_t row : rows) {
        if (row < 0 || static_cast<uint64_t>(row) >= table_rows)
            return fail(ErrorCode::kUnsupportedModel, "{}: row {} of {} is asked for", table.info->name, row,
                        table_rows);
        const uint64_t begin = table.info->file_offset + table.row_bytes * static_cast<uint64_t>(row);
        for (Page page = begin / kPageBytes; page <= (begin + table.row_bytes - 1) / kPageBytes; ++page)
            if (table.held[page - table.first_page] == 0) absent_.push_back(page);
    }
    std::ranges::sort(absent_);
    absent_.erase(std::ranges::unique(absent_).begin(), absent_.end());
    return {};
}

// Neighbours in one read: two outstanding ones must not touch each other's slack.
Status RowTables::read_absent(Table& table) {
    constexpr Page kApart = 1 + storage::BlockReader::kSlackBytes / kPageBytes;
    reads_.clear();
    for (size_t first = 0; first < absent_.size();) {
        size_t last = first;
        while (last + 1 < absent_.size() && absent_[last + 1] - absent_[last] < kApart) ++last;
        add_read(table, absent_[first], absent_[last] + 1);
        first = last + 1;
    }
    HYPURA_TRY(reader_->submit(reads_));
    Status all;
    while (reader_->outstanding() > 0) {
        finished_.clear();
        HYPURA_TRY(reader_->collect(finished_, true));
        for (storage::BlockCompletion& block : finished_)
            if (!block.status && all) all = std::move(block.status);
    }
    return all;
}

// Of pages [begin, end), what lies within the table: the file may end with it.
void RowTables::add_read(Table& table, Page begin, Page end) {
    for (Page page = begin; page < end; ++page)
        if (std::exchange(table.held[page - table.first_page], uint8_t{1}) == 0) ++table.held_pages;
    const gguf::TensorInfo& info = *table.info;
    const uint64_t from = std::max(begin * kPageBytes, info.file_offset);
    const uint64_t to = std::min(end * kPageBytes, info.file_offset + info.size_bytes);
    reads_.push_back({info.part, from, to - from, view_->part_memory(info.part) + from, 0, info.name});
}

void RowTables::forget(Table& table) const {
    const std::span<std::byte> pages = own_pages(*table.info, *view_);
    if (!pages.empty()) ::madvise(pages.data(), pages.size(), MADV_DONTNEED);
    std::ranges::fill(table.held, uint8_t{0});
    table.held_pages = 0;
}

}  // namespace hypura::engine
