// Tables that are read by rows - token embeddings, mostly - of which only the rows are in memory that passes named.
//
// A row is read into the view at its file offset, page by page of 4 KiB, just before GET_ROWS copies it out. When the
// rows that were read take more than a table may keep, all of them are given back, and read again when they are named.
// What is asked for is known before anything is computed: the ids are an input of the graph.
#pragma once

#include "engine/model_view.h"
#include "engine/stream_layout.h"
#include "storage/reader.h"

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

namespace hypura::engine {

// Used by the thread that computes. `view` outlives it.
class RowTables {
public:
    RowTables(std::span<const TableLayout> tables, const ModelView& view, std::unique_ptr<storage::BlockReader> reader);

    bool contains(const ggml_tensor* table) const { return tables_.contains(table); }

    // What bring() brought stays until the next pass.
    void begin_pass();
    // Waits until the rows that `ids` names are in memory. kUnsupportedModel where `ids` is computed, or names a row
    // that the table does not have; a read that failed leaves the table without rows.
    Status bring(const ggml_tensor* table, const ggml_tensor* ids);

    const storage::ReadCounters& counters() const { return reader_->counters(); }

private:
    using Page = uint64_t;  // of the file, 4 KiB
    struct Table {
        const gguf::TensorInfo* info = nullptr;
        uint64_t row_bytes = 0;
        uint64_t kept_pages = 0;
        uint64_t held_pages = 0;
        Page first_page = 0;
        std::vector<uint8_t> held;  // by page from first_page on
        bool may_forget = true;
    };

    Status list_absent(Table& table, std::span<const int32_t> rows);
    Status read_absent(Table& table);
    void add_read(Table& table, Page begin, Page end);
    void forget(Table& table) const;

    std::unordered_map<const ggml_tensor*, Table> tables_;
    const ModelView* view_;
    std::unique_ptr<storage::BlockReader> reader_;
    std::vector<Page> absent_;  // scratch of bring(), as the next two
    std::vector<storage::BlockRead> reads_;
    std::vector<storage::BlockCompletion> finished_;
};

}  // namespace hypura::engine
